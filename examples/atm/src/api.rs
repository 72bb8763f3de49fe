//! The REST service over the business.
//!
//! Errors are problem documents (RFC 9457). The OpenAPI document is drawn from this code, so the two cannot
//! drift apart.

use crate::bank::{Account, Atm, CardState, Refusal, Withdrawal};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The machine, shared by all requests.
pub type Shared = Arc<Mutex<Atm>>;

/// What to withdraw.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WithdrawalRequest {
    /// The card's number
    #[schema(example = "4000001", pattern = "^[0-9]{1,19}$")]
    pub card: String,
    /// Whole units of the currency
    #[schema(value_type = i64, example = 20, minimum = 1, maximum = 1_000_000)]
    pub amount: serde_json::Number,
}

/// A withdrawal that was paid.
#[derive(Debug, Serialize, ToSchema)]
pub struct WithdrawalReceipt {
    /// What came out
    #[schema(example = 20)]
    pub dispensed: i64,
    /// What is left on the account
    #[schema(example = 80)]
    pub balance: i64,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountView {
    /// What is on it
    #[schema(example = 100)]
    pub balance: i64,
    /// Whether its card may be used
    pub card_valid: bool,
}

/// A problem document. (RFC 9457)
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-enough-money")]
    pub kind: String,
    /// The kind in words
    #[schema(example = "not enough money")]
    pub title: String,
    /// The status of the answer
    #[schema(example = 409)]
    pub status: u16,
    /// The same in Chinese
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "余额不足")]
    pub title_zh: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: String) -> Problem {
        Problem { kind: format!("/problems/{kind}"), title, status: status.as_u16(), title_zh: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (status, kind) = match refusal {
            Refusal::UnknownCard => (StatusCode::NOT_FOUND, "unknown-card"),
            Refusal::CardNotValid => (StatusCode::FORBIDDEN, "card-not-valid"),
            Refusal::AmountNotPositive => (StatusCode::BAD_REQUEST, "amount-not-positive"),
            Refusal::NotEnoughMoney => (StatusCode::CONFLICT, "not-enough-money"),
            Refusal::NotEnoughCash => (StatusCode::CONFLICT, "not-enough-cash"),
        };
        let title_zh = Some(refusal.in_chinese().to_owned());
        Problem { title_zh, ..Problem::new(status, kind, refusal.to_string()) }
    }
}

/// JSON whose faults are answered with a problem document.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub struct Body<T>(pub T);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        match rejection.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", rejection.body_text())
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "bad-request", rejection.body_text()),
        }
    }
}

/// A number that is whole, such as 20 or 20.0, and in range.
fn whole(number: &serde_json::Number) -> Result<i64, Problem> {
    match number.as_f64() {
        Some(value) if value.fract() == 0.0 && value.abs() <= 1_000_000.0 => Ok(value as i64),
        _ => {
            let title = format!("amount {number} is no whole number up to 1000000");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad-amount", title))
        }
    }
}

/// Withdraw cash
#[utoipa::path(
    post, path = "/v1/withdrawals", operation_id = "requestCash", tag = "cash",
    request_body = WithdrawalRequest,
    responses(
        (status = 201, description = "The cash is dispensed and the card returned", body = WithdrawalReceipt),
        (status = 400, description = "The request is malformed", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The card is not valid and was kept", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The card is not known", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is not enough money or cash", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn request_cash(
    State(atm): State<Shared>,
    Body(request): Body<WithdrawalRequest>,
) -> Result<(StatusCode, Json<WithdrawalReceipt>), Problem> {
    let amount = whole(&request.amount)?;
    let mut atm = atm.lock().unwrap_or_else(PoisonError::into_inner);
    let Withdrawal { dispensed, balance } = atm.withdraw(&request.card, amount)?;
    Ok((StatusCode::CREATED, Json(WithdrawalReceipt { dispensed, balance })))
}

/// Look at an account
#[utoipa::path(
    get, path = "/v1/accounts/{card}", operation_id = "account", tag = "cash",
    params(("card" = String, Path, description = "The card's number", pattern = "^[0-9]{1,19}$", example = "4000001")),
    responses(
        (status = 200, description = "The account", body = AccountView),
        (status = 404, description = "The card is not known", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn account(State(atm): State<Shared>, Path(card): Path<String>) -> Result<Json<AccountView>, Problem> {
    let atm = atm.lock().unwrap_or_else(PoisonError::into_inner);
    match atm.accounts.get(&card) {
        Some(account) => {
            let card_valid = account.card == CardState::Valid;
            Ok(Json(AccountView { balance: account.balance, card_valid }))
        }
        None => Err(Refusal::UnknownCard.into()),
    }
}

async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path".to_owned())
}

#[derive(OpenApi)]
#[openapi(info(title = "Cash machine", description = "Grown from the story \"Customer withdraws cash\""))]
struct Document;

/// The service: API, its OpenAPI document at `/openapi.json`, Swagger UI at `/docs`.
pub fn service(atm: Atm) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(request_cash))
        .routes(routes!(account))
        .with_state(Arc::new(Mutex::new(atm)))
        .split_for_parts();
    let swagger = utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", document);
    router.merge(swagger).fallback(nothing_here)
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, document) = OpenApiRouter::<Shared>::with_openapi(Document::openapi())
        .routes(routes!(request_cash))
        .routes(routes!(account))
        .split_for_parts();
    document
}

/// A machine to try the service with.
pub fn demonstration() -> Atm {
    let mut atm = Atm { cash: 10_000, ..Atm::default() };
    let valid = Account { balance: 1_000, card: CardState::Valid };
    let stolen = Account { balance: 1_000, card: CardState::ReportedStolen };
    atm.accounts.insert("4000001".to_owned(), valid);
    atm.accounts.insert("4000002".to_owned(), stolen);
    atm
}
