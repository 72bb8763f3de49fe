//! Attributes that make a plain function a step.
//!
//! ```text
//! #[step(en = "I wait for {string}", zh = "我等待 {string}")]
//! fn wait_for(world: &mut World, name: String) -> Result<(), Failure> { … }
//! ```
//!
//! The function stays as it is. Beside it appears a module of the same name (functions and modules do not share
//! names) with one function `definition()`, which the catalogue's list names: `steps![wait_for]`. What the
//! expression promises is compared with the function's parameters when it compiles.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, FnArg, Ident, ItemFn, Lit, LitStr, Token, Type, parse_macro_input};

/// A step that does something: Given or When.
#[proc_macro_attribute]
pub fn step(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(parse_macro_input!(attribute as Options), parse_macro_input!(item as ItemFn), false)
}

/// A step that asks whether something holds: Then. It is asked again until it does, or until time is up.
#[proc_macro_attribute]
pub fn check(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(parse_macro_input!(attribute as Options), parse_macro_input!(item as ItemFn), true)
}

/// `en = "…"`, `zh = "…"` (both may repeat), `patience = "30 s"`.
struct Options {
    phrases: Vec<(String, LitStr)>,
    patience: u64,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Options> {
        let mut options = Options { phrases: Vec::new(), patience: 0 };
        for pair in Punctuated::<Pair, Token![,]>::parse_terminated(input)? {
            match pair.key.to_string().as_str() {
                "en" => options.phrases.push(("en".to_owned(), pair.value)),
                "zh" => options.phrases.push(("zh-CN".to_owned(), pair.value)),
                "patience" => options.patience = seconds(&pair.value)?,
                _ => return Err(syn::Error::new(pair.key.span(), "known are en, zh and patience")),
            }
        }
        if options.phrases.is_empty() {
            return Err(input.error("a step needs a phrase: en = \"…\""));
        }
        Ok(options)
    }
}

struct Pair {
    key: Ident,
    value: LitStr,
}

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> syn::Result<Pair> {
        let key = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok(Pair { key, value: input.parse()? })
    }
}

fn seconds(text: &LitStr) -> syn::Result<u64> {
    let value = text.value();
    let number = value.strip_suffix(" s").and_then(|number| number.parse().ok());
    number.ok_or_else(|| syn::Error::new(text.span(), "patience is whole seconds: \"30 s\""))
}

/// What a function takes after the world.
struct Parameters {
    calls: Vec<Tokens>,
    values: usize,
    table: bool,
    doc_string: bool,
}

fn expand(options: Options, function: ItemFn, check: bool) -> TokenStream {
    match definition(&options, &function, check) {
        Ok(definition) => quote!(#function #definition).into(),
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#function #error).into()
        }
    }
}

fn definition(options: &Options, function: &ItemFn, check: bool) -> syn::Result<Tokens> {
    let parameters = parameters(function)?;
    for (_, phrase) in &options.phrases {
        compare(phrase, parameters.values)?;
    }
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let title = name.to_string();
    let about = about(function);
    let languages = options.phrases.iter().map(|(language, _)| language);
    let expressions = options.phrases.iter().map(|(_, expression)| expression);
    let Parameters { calls, values, table, doc_string } = &parameters;
    let patience = options.patience;
    let doc = format!("The step `{title}`.");
    Ok(quote! {
        #[doc = #doc]
        #visibility mod #name {
            fn call(
                world: &mut ::kezhan_steps::World,
                arguments: &::kezhan_steps::Arguments,
            ) -> ::core::result::Result<(), ::kezhan_steps::Failure> {
                let _ = arguments;
                super::#name(world #(, #calls)*)
            }

            /// The step's phrases, needs and function.
            pub fn definition() -> ::kezhan_steps::StepDefinition {
                ::kezhan_steps::StepDefinition {
                    name: #title.into(),
                    phrases: ::std::vec![#(::kezhan_steps::Phrase {
                        language: #languages.into(),
                        expression: #expressions.into(),
                    }),*],
                    about: #about.into(),
                    check: #check,
                    patience: ::core::time::Duration::from_secs(#patience),
                    values: #values,
                    table: #table,
                    doc_string: #doc_string,
                    built_in: false,
                    place: ::kezhan_steps::Place { file: file!().into(), line: line!() },
                    action: ::kezhan_steps::Action::Function(call),
                }
            }
        }
    })
}

fn parameters(function: &ItemFn) -> syn::Result<Parameters> {
    let mut parameters =
        Parameters { calls: Vec::new(), values: 0, table: false, doc_string: false };
    let mut inputs = function.sig.inputs.iter();
    if inputs.next().is_none() {
        return Err(syn::Error::new(
            function.sig.span(),
            "a step's first parameter is `world: &mut World`",
        ));
    }
    for input in inputs {
        let FnArg::Typed(typed) = input else {
            return Err(syn::Error::new(input.span(), "a step is a plain function, not a method"));
        };
        match last_name(&typed.ty).as_str() {
            "Table" => {
                parameters.table = true;
                parameters.calls.push(quote!(arguments.table()?));
            }
            "DocString" => {
                parameters.doc_string = true;
                parameters.calls.push(quote!(arguments.doc_string()?));
            }
            _ => {
                let index = parameters.values;
                let borrow = matches!(*typed.ty, Type::Reference(_));
                parameters.values += 1;
                parameters.calls.push(if borrow {
                    quote!(&arguments.get::<::std::string::String>(#index)?)
                } else {
                    quote!(arguments.get(#index)?)
                });
            }
        }
    }
    Ok(parameters)
}

fn last_name(kind: &Type) -> String {
    match kind {
        Type::Path(path) => {
            path.path.segments.last().map_or_else(String::new, |segment| segment.ident.to_string())
        }
        Type::Reference(reference) => last_name(&reference.elem),
        _ => String::new(),
    }
}

/// A phrase that is no regular expression says how many values it has.
fn compare(phrase: &LitStr, values: usize) -> syn::Result<()> {
    let text = phrase.value();
    if text.starts_with(['/', '^']) {
        return Ok(());
    }
    let promised = text.replace("\\{", "").matches('{').count();
    if promised == values {
        return Ok(());
    }
    let message =
        format!("this phrase has {promised} parameters, the function takes {values} values");
    Err(syn::Error::new(phrase.span(), message))
}

/// The function's documentation.
fn about(function: &ItemFn) -> LitStr {
    let mut text = String::new();
    for attribute in function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &pair.value
        {
            text.push_str(line.value().trim());
            text.push(' ');
        }
    }
    LitStr::new(text.trim(), Span::call_site())
}
