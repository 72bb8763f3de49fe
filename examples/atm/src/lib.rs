//! A cash machine: the business ([`bank`]) and its REST service ([`api`]).

pub mod api;
pub mod bank;
