//! Unpacks the files that the binary carries. build.rs has compressed them, since most runs never need them.

use miniz_oxide::inflate::decompress_to_vec;

/// A file that build.rs has compressed, by its name.
macro_rules! embedded {
    ($name:literal) => {
        $crate::embedded::Embedded(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".deflate")))
    };
}
pub(crate) use embedded;

/// A compressed file (DEFLATE, RFC 1951).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded(pub(crate) &'static [u8]);

impl Embedded {
    /// Returns true if there is no such file in this build.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file's bytes.
    pub(crate) fn unpack(&self) -> Vec<u8> {
        // build.rs has compressed it.
        decompress_to_vec(self.0).unwrap_or_default()
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.unpack()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_embedded_file_is_unpacked_whole() {
        assert_eq!(embedded!("worker.cjs").text(), include_str!("ports/node/worker.cjs"));
        let described: serde_json::Value = serde_json::from_str(&embedded!("openapi.json").text()).unwrap();
        assert_eq!(described, serde_json::from_str::<serde_json::Value>(include_str!("control/openapi.json")).unwrap());
        let page = embedded!("dashboard.html").text();
        for part in [include_str!("control/dashboard/style.css"), include_str!("control/dashboard/main.js")] {
            assert!(page.contains(part));
        }
        assert!(page.ends_with("</html>\n"));
    }
}
