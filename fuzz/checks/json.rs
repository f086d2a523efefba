//! A strict reader of JSON (RFC 8259) that returns values as text. It does not recurse, so nesting needs no stack.

/// The value in `text`, without white space around it; `None` when `text` is not JSON.
#[must_use]
pub fn value(text: &str) -> Option<&str> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    let value = scanner.value()?;
    scanner.space();
    (scanner.at == text.len()).then_some(value)
}

/// The members of `value`, which [`value`] has returned; `None` when it is not an object. A name is `None` when it has
/// a lone surrogate.
#[must_use]
pub fn members(value: &str) -> Option<Vec<(Option<String>, &str)>> {
    let mut scanner = Scanner { text: value, at: 0 };
    let mut members = Vec::new();
    if !scanner.take(b'{') {
        return None;
    }
    scanner.space();
    while scanner.peek()? == b'"' {
        let start = scanner.at;
        scanner.string()?;
        let name = string(&value[start..scanner.at]);
        scanner.space();
        scanner.take(b':');
        scanner.space();
        members.push((name, scanner.value()?));
        scanner.space();
        scanner.take(b',');
        scanner.space();
    }
    Some(members)
}

/// The items of `value`, which [`value`] has returned; `None` when it is not an array.
#[must_use]
pub fn items(value: &str) -> Option<Vec<&str>> {
    let mut scanner = Scanner { text: value, at: 0 };
    let mut items = Vec::new();
    if !scanner.take(b'[') {
        return None;
    }
    scanner.space();
    while scanner.peek()? != b']' {
        items.push(scanner.value()?);
        scanner.space();
        scanner.take(b',');
        scanner.space();
    }
    Some(items)
}

/// The text of `value`, which [`value`] has returned; `None` when it is not a string, or has a lone surrogate.
#[must_use]
pub fn string(value: &str) -> Option<String> {
    let mut rest = value.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut units = Vec::new();
    while let Some(next) = rest.next() {
        let unit = match next {
            '\\' => match rest.next()? {
                'n' => 0x0a,
                't' => 0x09,
                'r' => 0x0d,
                'b' => 0x08,
                'f' => 0x0c,
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).ok()?
                }
                plain => u16::try_from(u32::from(plain)).ok()?,
            },
            plain => {
                units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
                continue;
            }
        };
        units.push(unit);
    }
    String::from_utf16(&units).ok()
}

/// Whether the text is a JSON number.
#[must_use]
pub fn is_number(text: &str) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.number().is_some() && scanner.at == text.len()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Reads a value.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        // The closing brackets of the values around this one, the outermost first.
        let mut open_values = Vec::new();
        loop {
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    self.at += 1;
                    self.space();
                    if !self.take(close) {
                        open_values.push(close);
                        self.name(close)?;
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            // The end of a value may be the end of values around it.
            loop {
                let Some(close) = open_values.last().copied() else { return Some(&self.text[start..self.at]) };
                self.space();
                if self.take(b',') {
                    self.space();
                    self.name(close)?;
                    break;
                }
                if !self.take(close) {
                    return None;
                }
                open_values.pop();
            }
        }
    }

    /// In an object, reads a name and its colon.
    fn name(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.string()?;
            self.space();
            if !self.take(b':') {
                return None;
            }
            self.space();
        }
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let there = self.text[self.at..].starts_with(word);
        self.at += word.len();
        there.then_some(())
    }

    fn string(&mut self) -> Option<()> {
        if !self.take(b'"') {
            return None;
        }
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                0..0x20 => return None,
                b'\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 4;
                        }
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}
