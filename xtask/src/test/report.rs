//! Results of tests as they come, in the manner of TAP, and their sum.

/// A test's name, and what it does.
pub(crate) type Test = (&'static str, fn() -> anyhow::Result<()>);

/// Counts results and shows them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: u32,
    failed: Vec<String>,
}

impl Report {
    /// Says what is going to be done.
    pub(crate) fn begin(&self, what: &str) {
        println!("# {what}");
    }

    /// A test that did what it should.
    pub(crate) fn pass(&mut self, name: &str, note: &str) {
        self.passed += 1;
        println!("ok {} - {name}{}{note}", self.count(), if note.is_empty() { "" } else { " # " });
    }

    /// A test that did not; `why` may have several lines.
    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.failed.push(name.to_owned());
        println!("not ok {} - {name}", self.count());
        for line in why.lines() {
            println!("    {line}");
        }
    }

    /// Runs those of `tests` whose names contain `filter`.
    pub(crate) fn run(&mut self, tests: &[Test], filter: Option<&str>) {
        for (name, test) in tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter))) {
            match test() {
                Ok(()) => self.pass(name, ""),
                Err(error) => self.fail(name, &format!("{error:#}")),
            }
        }
    }

    /// Shows the sum and gives the exit status.
    pub(crate) fn close(self) -> i32 {
        if !self.failed.is_empty() {
            println!("# failed: {}", self.failed.join(", "));
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        i32::from(!self.failed.is_empty())
    }

    fn count(&self) -> usize {
        self.passed as usize + self.failed.len()
    }
}
