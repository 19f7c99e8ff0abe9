//! The shape of a JSON object that is written again and again: what stands before each value, and what closes it.

use engine::value::write_json_string;

/// The shape of an object; `T` says where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout<T> {
    /// The values, in the order they are written.
    pub members: Vec<Member<T>>,
    /// What closes the object.
    pub close: Vec<u8>,
}

/// One value of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<T> {
    /// What stands before the value: braces or a comma, the name, the colon.
    pub before: Vec<u8>,
    /// Where the value comes from.
    pub source: T,
}

impl<T> Layout<T> {
    /// Makes the shape of an object whose values lie at `paths` (object keys from the outside in). Of two values at
    /// one path the first is kept.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = (Vec<String>, T)>) -> Self {
        let mut tree = Tree { members: Vec::new() };
        for (path, source) in paths {
            tree.insert(&path, source);
        }
        let (mut members, mut before) = (Vec::new(), Vec::new());
        tree.write(&mut before, &mut members);
        Self { members, close: before }
    }
}

struct Tree<T> {
    members: Vec<(String, Node<T>)>,
}

enum Node<T> {
    Value(T),
    Object(Tree<T>),
}

impl<T> Tree<T> {
    fn insert(&mut self, path: &[String], source: T) {
        let [first, rest @ ..] = path else { return };
        let known = self.members.iter().position(|(name, _)| name == first);
        if rest.is_empty() {
            if known.is_none() {
                self.members.push((first.clone(), Node::Value(source)));
            }
            return;
        }
        let at = known.unwrap_or_else(|| {
            self.members.push((first.clone(), Node::Object(Self { members: Vec::new() })));
            self.members.len() - 1
        });
        if let Node::Object(inner) = &mut self.members[at].1 {
            inner.insert(rest, source);
        }
    }

    /// Leaves in `before` what stands between the last value and whatever comes next.
    fn write(self, before: &mut Vec<u8>, members: &mut Vec<Member<T>>) {
        before.push(b'{');
        for (at, (name, node)) in self.members.into_iter().enumerate() {
            if at > 0 {
                before.push(b',');
            }
            write_json_string(&name, before);
            before.push(b':');
            match node {
                Node::Value(source) => members.push(Member { before: std::mem::take(before), source }),
                Node::Object(inner) => inner.write(before, members),
            }
        }
        before.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_one_object_stand_together() {
        let check = |paths: &[&str], expected: &str| {
            let paths = paths.iter().enumerate().map(|(at, path)| (path.split('.').map(String::from).collect(), at));
            let layout = Layout::new(paths);
            let mut text = String::new();
            for member in &layout.members {
                text += &format!("{}<{}>", String::from_utf8_lossy(&member.before), member.source);
            }
            assert_eq!(text + &String::from_utf8_lossy(&layout.close), expected);
        };
        check(&[], "{}");
        check(&["a", "b\""], r#"{"a":<0>,"b\"":<1>}"#);
        check(&["a.b", "c", "a.d.e", "a.d.f"], r#"{"a":{"b":<0>,"d":{"e":<2>,"f":<3>}},"c":<1>}"#);
        check(&["a", "a"], r#"{"a":<0>}"#);
    }
}
