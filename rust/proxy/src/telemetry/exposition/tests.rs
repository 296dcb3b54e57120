use super::*;

fn written(write: impl FnOnce(&mut Exposition)) -> String {
    let mut exposition = Exposition::default();
    write(&mut exposition);
    String::from_utf8(exposition.into_bytes()).unwrap()
}

#[test]
fn numbers_read_as_the_standard_library_writes_them() {
    let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
    let around = powers.flat_map(|power| [power - 1, power, power + 1]);
    for number in around.chain([u64::MAX, u64::MAX - 1]) {
        assert_eq!(written(|text| text.number(number)), format!("{number}\n"));
    }
}

#[test]
fn a_gauge_may_be_below_zero() {
    for value in [i64::MIN, -1, 0, i64::MAX] {
        let text = written(|text| text.sample("open", &[], value));
        assert_eq!(text, format!("open {value}\n"));
    }
}

#[test]
fn labels_stand_in_braces_with_commas_between() {
    let labels = [("side", "inbound"), ("reason", "policy")];
    let text = written(|text| text.sample("refusals_total", &labels, 3));
    assert_eq!(
        text,
        "refusals_total{side=\"inbound\",reason=\"policy\"} 3\n"
    );
}

#[test]
fn a_family_begins_with_its_help_and_its_type() {
    let text = written(|text| text.family("open", "How many.", Kind::Gauge));
    assert_eq!(text, "# HELP open How many.\n# TYPE open gauge\n");
}

#[test]
fn the_length_of_a_sample_is_known_before_it_is_written() {
    for value in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
        let labels = ("a=\"b\",response_flags=\"", "\",c=\"d\"");
        let text = written(|text| text.rendered("opened_total", labels, "DENY", value));
        let length = Exposition::rendered_length("opened_total", labels, "DENY", value);
        assert_eq!(text.len(), length, "{text}");
    }
}
