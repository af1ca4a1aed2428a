//! Stepping over a value in which nothing is read and keys are not compared: what servers send can be long, so this
//! neither recurses nor keeps anything but one bit per level.

use super::token::Cursor;
use super::{Fault, MAX_DEPTH};

/// Which of the open containers are objects.
struct Nesting {
    objects: [u64; (MAX_DEPTH as usize) / 64],
    open: u32,
    max: u32,
}

impl Nesting {
    fn push(&mut self, object: bool) -> Result<(), Fault> {
        if self.open >= self.max {
            return Err(Fault::TooDeep);
        }
        let bit = 1u64 << (self.open % 64);
        if let Some(word) = self.objects.get_mut((self.open / 64) as usize) {
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.open += 1;
        Ok(())
    }

    /// Whether the innermost open container is an object; `None` when none is open.
    fn innermost(&self) -> Option<bool> {
        let at = self.open.checked_sub(1)?;
        let word = self.objects.get((at / 64) as usize)?;
        Some(word >> (at % 64) & 1 == 1)
    }
}

impl Cursor<'_> {
    /// Steps over one value; `depth` is that of the value, should it be a container.
    pub(super) fn skip_value(&mut self, depth: u32, max_depth: u32) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'{' | b'[')) {
            return self.scalar();
        }
        let mut nesting = Nesting {
            objects: [0; (MAX_DEPTH as usize) / 64],
            open: 0,
            max: (max_depth.min(MAX_DEPTH) + 1).saturating_sub(depth),
        };
        loop {
            // Here a value begins.
            match self.peek() {
                Some(b'{') => {
                    nesting.push(true)?;
                    self.eat(b'{');
                    self.space();
                    if !self.eat(b'}') {
                        self.key()?;
                        continue;
                    }
                    nesting.open -= 1;
                }
                Some(b'[') => {
                    nesting.push(false)?;
                    self.eat(b'[');
                    self.space();
                    if !self.eat(b']') {
                        continue;
                    }
                    nesting.open -= 1;
                }
                _ => self.scalar()?,
            }
            // Here a value has ended: close what ends with it, then go to the next.
            loop {
                let Some(object) = nesting.innermost() else {
                    return Ok(());
                };
                self.space();
                if self.eat(b',') {
                    self.space();
                    if object {
                        self.key()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                nesting.open -= 1;
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), Fault> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }
}
