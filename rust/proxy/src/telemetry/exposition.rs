//! OpenMetrics text, written by hand: heads of families, samples, numbers.
//!
//! What is shown and under which names is `metrics.rs`'s; byte for byte what the `prometheus-client` crate writes,
//! which is the oracle of the tests.

/// A text under construction.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<u8>);

/// What a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Exposition {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The head of a family.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind) {
        for part in head(name, help, kind) {
            self.push(part);
        }
    }

    /// In what a family counts; follows its head.
    pub(super) fn unit(&mut self, name: &str, unit: &str) {
        for part in ["# UNIT ", name, " ", unit, "\n"] {
            self.push(part);
        }
    }

    /// How long such a head will be.
    pub(super) fn family_length(name: &str, help: &str, kind: Kind) -> usize {
        head(name, help, kind).map(str::len).iter().sum()
    }

    /// One sample whose labels we chose ourselves: nothing in them needs escaping.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: i64) {
        self.series(name, labels);
        if value < 0 {
            self.push("-");
        }
        self.number(value.unsigned_abs());
    }

    /// The same of a number that is written already.
    pub(super) fn written(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        self.series(name, labels);
        self.push(value);
        self.push("\n");
    }

    fn series(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.push(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.push(if index == 0 { "{" } else { "," });
            for part in [label, "=\"", value, "\""] {
                self.push(part);
            }
        }
        self.push(if labels.is_empty() { " " } else { "} " });
    }

    /// One sample of rendered labels, its flag put into the gap.
    pub(super) fn rendered(
        &mut self,
        name: &str,
        (before, after): (&str, &str),
        flag: &str,
        value: u64,
    ) {
        for part in [name, "{", before, flag, after, "} "] {
            self.push(part);
        }
        self.number(value);
    }

    /// How long such a sample will be.
    pub(super) fn rendered_length(
        name: &str,
        (before, after): (&str, &str),
        flag: &str,
        value: u64,
    ) -> usize {
        let digits = value.checked_ilog10().map_or(1, |exponent| exponent + 1);
        let marks = "{} \n".len();
        name.len() + before.len() + flag.len() + after.len() + marks + digits as usize
    }

    pub(super) fn end(&mut self) {
        self.push("# EOF\n");
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Decimal, and the end of the line.
    fn number(&mut self, mut number: u64) {
        let mut digits = [b'\n'; 21]; // 2^64 has twenty
        let mut start = digits.len() - 1;
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[start..]);
    }
}

fn head<'a>(name: &'a str, help: &'a str, kind: Kind) -> [&'a str; 9] {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    [
        "# HELP ",
        name,
        " ",
        help,
        "\n# TYPE ",
        name,
        " ",
        kind,
        "\n",
    ]
}

#[cfg(test)]
mod tests;
