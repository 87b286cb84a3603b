//! Texts as PostgreSQL keeps them: it can't hold a NUL.

use std::borrow::Cow;

use bytestring::ByteString;

/// `text` with `\\` for a backslash and `\0` for a NUL; nearly every text stays as it is.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', '\0']) { text.replace('\\', "\\\\").replace('\0', "\\0").into() } else { text.into() }
}

/// The reverse of [`escaped`].
pub(super) fn plain(text: &str) -> ByteString {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' if characters.next() == Some('0') => '\0',
            other => other,
        });
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_holds_no_nul_meanwhile(text in "[\\\\0\0a漢]{0,12}") {
            let kept = escaped(&text);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(&*plain(&kept), text.as_str());
        }
    }
}
