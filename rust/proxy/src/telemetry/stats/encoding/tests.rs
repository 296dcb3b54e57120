use super::*;

fn negotiated(values: &[&str]) -> Option<Encoding> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(ACCEPT_ENCODING, value.parse().unwrap());
    }
    Encoding::negotiate(&headers)
}

#[test]
fn the_heaviest_wish_that_can_be_met_wins() {
    use Encoding::{Brotli, Deflate, Gzip, Zstd};
    for (values, encoding) in [
        (&[][..], None),
        (&[""], None),
        (&["gzip"], Some(Gzip)),
        (&["x-gzip"], Some(Gzip)),
        (&["GZIP"], Some(Gzip)),
        (&["deflate"], Some(Deflate)),
        (&["br"], Some(Brotli)),
        (&["zstd"], Some(Zstd)),
        (&["gzip, deflate, br, zstd"], Some(Zstd)),
        (&["gzip", "br"], Some(Brotli)),
        (&["gzip;q=1.0, zstd;q=0.9"], Some(Gzip)),
        (&["gzip ; q=0.5 , br;q=0.25"], Some(Gzip)),
        (&["gzip;q=0.001"], Some(Gzip)),
        (&["gzip;q=0"], None),
        (&["gzip;q=0.000, br"], Some(Brotli)),
        (&["identity"], None),
        (&["identity;q=0.5, gzip;q=0.2"], None),
        (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
        (&["identity;q=0, snappy"], None),
        (&["*"], None),
        (&["compress, lz4"], None),
    ] {
        assert_eq!(negotiated(values), encoding, "{values:?}");
    }
}

#[test]
fn entries_that_cannot_be_read_are_passed_over() {
    for entry in [
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=0.1234",
        "gzip;q=-1",
        "gzip;q=0.+1",
        "gzip;q=nan",
        "gzip;level=9",
        ";q=1",
        ",,,",
    ] {
        assert_eq!(negotiated(&[entry]), None, "{entry}");
        let and_more = format!("{entry},deflate");
        assert_eq!(negotiated(&[&and_more]), Some(Encoding::Deflate), "{entry}");
    }
}
