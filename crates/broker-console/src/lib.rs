//! The console: a page at `/console` on which a broker is watched and operated.
//!
//! The files in `page` are served as they lie there, modules of the browser's own kind, so nothing is built and nothing is
//! needed but the Rust toolchain. What they do goes through the API, with the rights of whoever uses them. A test holds the
//! list here against the directory.
#![forbid(unsafe_code)]

use broker_http::StaticPage;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files, each at `/console/` and its path in `page`.
macro_rules! files {
    ($($path:literal: $content_type:expr,)*) => {
        [$(StaticPage {
            path: concat!("/console/", $path),
            content_type: $content_type,
            body: include_bytes!(concat!("../page/", $path)),
        },)*]
    };
}

/// The page itself, where people look for it.
const ENTRANCES: [StaticPage; 2] = [
    StaticPage { path: "/console", content_type: HTML, body: include_bytes!("../page/index.html") },
    StaticPage { path: "/console/", content_type: HTML, body: include_bytes!("../page/index.html") },
];

const FILES: [StaticPage; FILE_COUNT] = files! {
    "console.css": CSS,
    "icon.svg": SVG,
    "icons.svg": SVG,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "charts.js": SCRIPT,
    "dialog.js": SCRIPT,
    "dom.js": SCRIPT,
    "format.js": SCRIPT,
    "ledger.js": SCRIPT,
    "parts.js": SCRIPT,
    "policy.js": SCRIPT,
    "removal.js": SCRIPT,
    "session.js": SCRIPT,
    "stream.js": SCRIPT,
    "tail.js": SCRIPT,
    "theme.js": SCRIPT,
    "views/acts.js": SCRIPT,
    "views/connections.js": SCRIPT,
    "views/overview.js": SCRIPT,
    "views/publish.js": SCRIPT,
    "views/resume.js": SCRIPT,
    "views/sign_in.js": SCRIPT,
    "views/topic.js": SCRIPT,
    "views/topics.js": SCRIPT,
    "vendor/eventsource-parser/index.js": SCRIPT,
    "vendor/uplot/uPlot.esm.js": SCRIPT,
    "vendor/uplot/uPlot.min.css": CSS,
};
const FILE_COUNT: usize = 28;

/// What is served for the console.
pub fn pages() -> Vec<StaticPage> {
    ENTRANCES.into_iter().chain(FILES).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files_below(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => files_below(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served_and_nothing_else() {
        let mut found = BTreeSet::new();
        files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("page"), "", &mut found);
        found.remove("index.html");
        found.retain(|name| !name.ends_with("LICENSE"));
        let served = FILES.iter().map(|page| page.path.trim_start_matches("/console/").to_owned());
        assert_eq!(served.collect::<BTreeSet<_>>(), found);
    }

    #[test]
    fn nothing_stands_inline_and_nothing_comes_from_elsewhere() {
        let html = include_str!("../page/index.html");
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains(" onclick"), "{html}");
        assert_eq!(html.matches("<script").count(), html.matches("src=\"/console/main.js\"").count());
        for page in FILES.iter().filter(|page| !page.path.contains("/vendor/")) {
            let text = std::str::from_utf8(page.body).unwrap().replace("http://www.w3.org/", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{}", page.path);
        }
    }
}
