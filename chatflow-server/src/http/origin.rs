//! Whose pages may use this server.

use axum::http::uri::Uri;
use axum::http::{HeaderMap, header};

use crate::config::ServerSection;

/// Whether a request's `Origin` is this server's own, or one of the list. A request without one is not from a browser.
pub(crate) fn is_allowed(headers: &HeaderMap, server: &ServerSection) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, more) = (origins.next(), origins.next());
    match origin.map(|origin| origin.to_str()) {
        None => true,
        Some(Ok(origin)) if more.is_none() => {
            server.origins.iter().any(|listed| listed == origin) || is_own(origin, headers) || same(origin, &server.public_url)
        }
        Some(_) => false,
    }
}

/// Whether `origin` is where the request was sent to. Which scheme a proxy in front speaks isn't known here, so the
/// origin's own decides about the default port.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let scheme = origin.split_once("://").map(|(scheme, _)| scheme);
    matches!((scheme, host), (Some(scheme @ ("http" | "https")), Some(host)) if same(origin, &format!("{scheme}://{host}")))
}

fn same(a: &str, b: &str) -> bool {
    matches!((parts(a), parts(b)), (Some(a), Some(b)) if a == b)
}

fn parts(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_owned();
    let port = uri.port_u16().or(match &*scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    // The address of a user before the host would make two different things alike.
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    Some((scheme, authority.host().to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>, host: &str, server: &ServerSection) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        is_allowed(&headers, server)
    }

    #[test]
    fn the_same_origin_and_an_exact_list_may_connect() {
        let server = ServerSection {
            origins: vec!["https://friend.example".into()],
            public_url: "https://chat.example".into(),
            ..ServerSection::default()
        };
        for (origin, host, expected) in [
            (None, "a.example", true),
            (Some("http://a.example"), "a.example", true),
            (Some("http://A.example:80"), "a.example", true),
            (Some("https://a.example"), "a.example:443", true),
            (Some("http://a.example:8080"), "a.example:8080", true),
            (Some("http://a.example:8081"), "a.example:8080", false),
            (Some("http://a.example.evil"), "a.example", false),
            (Some("http://evil"), "a.example", false),
            (Some("null"), "a.example", false),
            (Some("http://a.example@evil"), "evil", false),
            (Some("https://friend.example"), "a.example", true),
            (Some("https://friend.example.evil"), "a.example", false),
            (Some("http://friend.example"), "a.example", false),
            (Some("https://chat.example"), "10.0.0.7:8080", true),
            (Some("http://[::1]:8080"), "[::1]:8080", true),
        ] {
            assert_eq!(allowed(origin, host, &server), expected, "{origin:?} at {host}");
        }
    }
}
