# shellcheck shell=bash
# own_artefacts: makes sure that what is compiled in CARGO_TARGET_DIR belongs to this checkout. Tests know the path they were
# compiled at (env!("CARGO_MANIFEST_DIR")), and cargo does not notice when another checkout has used the folder since.
# Sourced; wants REPOSITORY and CARGO_TARGET_DIR.
own_artefacts() {
  local mark=$CARGO_TARGET_DIR/checkout
  mkdir -p "$CARGO_TARGET_DIR"
  [ "$(cat "$mark" 2>/dev/null)" = "$REPOSITORY" ] && return
  # Newer than anything compiled; dependencies stay as they are.
  git -C "$REPOSITORY" ls-files -z -- '*.rs' '*/Cargo.toml' | (cd "$REPOSITORY" && xargs -0 touch)
  printf '%s\n' "$REPOSITORY" >"$mark"
}
