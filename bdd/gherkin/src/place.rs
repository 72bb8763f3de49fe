//! Where the parser stands, and what may come next.
//!
//! The grammar is regular but for one look-ahead, so a place says everything:
//!
//! ```text
//! Start -> AfterLanguage -> Tags(Feature) -> Heading(Feature) -> Description(Feature)
//!                                               |
//!        Heading(Background) -> Steps ... Tags(Scenario) -> Heading(Scenario) -> Steps
//!                                               |                                  |
//!                                    Tags(Rule) -> Heading(Rule) ...    Heading(Examples) -> Rows
//! ```
//!
//! A tag line does not say what it belongs to; [`crate::parser`] looks ahead to the next title. A step takes a
//! table, a doc string, or one of each in either order.

use crate::token::{Kind, ORDER};

/// What a title opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Feature,
    Rule,
    Background,
    Scenario,
    Examples,
}

/// Which arguments a step has taken so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    None,
    Table { only: bool },
    Doc { only: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Start,
    AfterLanguage,
    /// Below a tag, above the title that it belongs to.
    Tags(Node),
    /// Right below a title.
    Heading(Node),
    /// In free text below a title.
    Description(Node),
    /// Below a step of a background or scenario.
    Step(Node, Argument),
    /// In a table of examples.
    Rows,
}

impl Place {
    /// Whether a line of this kind may stand here.
    pub fn accepts(self, kind: Kind) -> bool {
        match self {
            Place::Start => {
                matches!(kind, Kind::Language | Kind::Tags | Kind::Feature) || passing(kind)
            }
            Place::AfterLanguage => matches!(kind, Kind::Tags | Kind::Feature) || passing(kind),
            Place::Tags(node) => kind == Kind::Tags || kind == node.title() || passing(kind),
            Place::Heading(node) => kind == Kind::Empty || below_title(node, kind),
            Place::Description(node) => below_title(node, kind),
            Place::Step(node, argument) => below_step(node, argument, kind),
            Place::Rows => matches!(kind, Kind::Row | Kind::Examples) || closing(kind),
        }
    }

    /// Whether the file may end here.
    pub fn may_end(self) -> bool {
        !matches!(self, Place::AfterLanguage | Place::Tags(_))
    }

    /// What may stand here, in words.
    pub fn expected(self) -> String {
        let mut names: Vec<&str> = ORDER
            .iter()
            .filter(|kind| self.accepts(**kind))
            .filter_map(|kind| kind.name())
            .collect();
        if self.may_end() {
            names.push("the end of the file");
        }
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            Some((last, _)) => (*last).to_owned(),
            None => String::new(),
        }
    }
}

impl Node {
    fn title(self) -> Kind {
        match self {
            Node::Feature => Kind::Feature,
            Node::Rule => Kind::Rule,
            Node::Background => Kind::Background,
            Node::Scenario => Kind::Scenario,
            Node::Examples => Kind::Examples,
        }
    }
}

fn passing(kind: Kind) -> bool {
    matches!(kind, Kind::Empty | Kind::Comment)
}

/// What may close anything below a feature's title.
fn closing(kind: Kind) -> bool {
    matches!(kind, Kind::Tags | Kind::Scenario | Kind::Rule) || passing(kind)
}

fn below_title(node: Node, kind: Kind) -> bool {
    let own = match node {
        Node::Feature | Node::Rule => kind == Kind::Background,
        Node::Background => kind == Kind::Step,
        Node::Scenario => matches!(kind, Kind::Step | Kind::Examples),
        Node::Examples => matches!(kind, Kind::Row | Kind::Examples),
    };
    own || kind == Kind::Other || (closing(kind) && kind != Kind::Empty)
}

fn below_step(node: Node, argument: Argument, kind: Kind) -> bool {
    match kind {
        Kind::Step => true,
        Kind::Row => argument != Argument::Doc { only: false },
        Kind::DocString => matches!(argument, Argument::None | Argument::Table { only: true }),
        Kind::Examples => node == Node::Scenario,
        _ => closing(kind),
    }
}
