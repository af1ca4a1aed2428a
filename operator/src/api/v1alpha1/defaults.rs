//! Defaults, written once: they fill the schema, they fill what is read without an API server, and they make `Default`.

/// Defines a module with one function per field, for `#[serde(default = "module::field")]`, and `Default` from them.
macro_rules! field_defaults {
    ($module:ident for $type:ident { $($field:ident: $kind:ty = $value:expr),* $(,)? }) => {
        mod $module {
            #[allow(unused_imports, reason = "not every default needs a name from around it")]
            use super::*;

            $(pub(super) fn $field() -> $kind { $value })*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($field: $module::$field()),* }
            }
        }
    };
}
