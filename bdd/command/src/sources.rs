//! What the verbs have in common: files and the catalogue.

use kezhan_expressions::ParameterTypes;
use kezhan_features::{Loaded, load};
use kezhan_steps::{Catalogue, StepDefinition};
use std::path::PathBuf;

/// Which features.
#[derive(Clone, Debug, clap::Args)]
pub struct FeatureArgs {
    /// Feature files, and folders to look through for *.feature
    #[arg(value_name = "FEATURES", default_value = "features")]
    pub features: Vec<PathBuf>,
    /// Spoken language of files without a `# language:` line
    #[arg(long, value_name = "CODE", default_value = "en")]
    pub language: String,
}

impl FeatureArgs {
    /// The parsed files and the faults of the others.
    pub fn load(&self) -> Loaded {
        load(&self.features, &self.language)
    }
}

/// Prints what is wrong with files; says whether anything was.
pub(crate) fn report_problems(loaded: &Loaded) -> bool {
    loaded.problems.iter().for_each(|problem| eprintln!("{problem}"));
    !loaded.problems.is_empty()
}

/// The built-in steps and one's own; faults of definitions are printed, and the other definitions serve.
pub(crate) fn catalogue_with(own: Vec<StepDefinition>) -> (Catalogue, bool) {
    let types = ParameterTypes::default();
    let mut catalogue = Catalogue::default();
    let mut errors = catalogue.add(kezhan_vocabulary::all(), &types);
    errors.extend(catalogue.add(own, &types));
    errors.iter().for_each(|error| eprintln!("{error}"));
    (catalogue, errors.is_empty())
}
