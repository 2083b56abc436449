//! The OpenAPI document of a service: collected from the routes that are served, and completed by one set of rules.
//!
//! A handler's annotation documents what is particular to it. The responses that all operations of a kind have follow
//! from the operation's parts, so that no handler repeats them:
//!
//! | an operation with | also answers |
//! | --- | --- |
//! | security | 400, 401, 403 |
//! | a parameter in its path | 404 |
//! | a body | 400, 408, 413, 415, 422 |
//! | a parameter in its query or headers | 422 |
//! | anything but health and metrics | 500, 503 |
//!
//! An error without a content is a [`Problem`] as `application/problem+json`. A success without a description has that
//! of its schema. 405 belongs to no operation: it answers a method that the path does not have.
//!
//! Routes are added by [`Routes::service`], which serves a handler and documents it: there is no second list to forget
//! it in.

use std::collections::BTreeMap;

use actix_web::{App, dev::HttpServiceFactory, web};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, Header, License, Object, OpenApi, PathItem, Ref, RefOr, Response, Schema,
        SecurityRequirement, Server, Tag, Type,
        path::{Operation, ParameterIn},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_actix_web::OpenApiFactory;

use crate::http::{FieldError, PROBLEM, Problem};

/// The name of the scheme by which callers authenticate.
const BEARER: &str = "bearer";
/// The media type that utoipa assumes.
const JSON: &str = "application/json";

/// A collector of routes, for the server and for its document.
pub struct Routes<'r> {
    config: &'r mut web::ServiceConfig,
    document: &'r mut OpenApi,
}

impl Routes<'_> {
    /// Serves a handler, as its `#[utoipa::path]` documents it.
    pub fn service<F>(&mut self, handler: F) -> &mut Self
    where
        F: HttpServiceFactory + OpenApiFactory + 'static,
    {
        let mut schemas = Vec::new();
        handler.schemas(&mut schemas);
        let components = self.document.components.get_or_insert_default();
        for (name, schema) in schemas {
            add_schema(&mut components.schemas, name, schema);
        }
        self.document.paths.merge(handler.paths());
        self.config.service(handler);
        self
    }

    /// Serves routes that are not part of the API: files of a page.
    pub fn undocumented<F: HttpServiceFactory + 'static>(&mut self, handler: F) -> &mut Self {
        self.config.service(handler);
        self
    }

    /// Gives the handlers shared data to work with.
    pub fn app_data<T: 'static>(&mut self, data: T) -> &mut Self {
        self.config.app_data(data);
        self
    }
}

/// Adds a schema.
///
/// # Panics
///
/// If another type has the same name already: one of the two would be documented as the other.
fn add_schema(schemas: &mut BTreeMap<String, RefOr<Schema>>, name: String, schema: RefOr<Schema>) {
    if let Some(before) = schemas.get(&name) {
        assert!(
            *before == schema,
            "two types have the schema name {name}: rename one by #[schema(as = ...)]"
        );
        return;
    }
    schemas.insert(name, schema);
}

/// Routes that are served together, under the same security.
#[derive(Clone)]
pub(crate) struct Part {
    /// The security of operations that declare none themselves.
    security: Vec<SecurityRequirement>,
    routes: std::sync::Arc<dyn Fn(&mut Routes) + Send + Sync>,
}

impl Part {
    /// Makes a part whose routes need a token.
    pub(crate) fn new(routes: impl Fn(&mut Routes) + Send + Sync + 'static) -> Self {
        Self {
            security: vec![SecurityRequirement::new(BEARER, [""; 0])],
            routes: std::sync::Arc::new(routes),
        }
    }

    /// Replaces the security by that of an `OpenApi`, if it has one.
    pub(crate) fn secured_as(self, security: Option<Vec<SecurityRequirement>>) -> Self {
        Self {
            security: security.unwrap_or(self.security),
            ..self
        }
    }

    /// Serves the routes.
    pub(crate) fn serve(&self, config: &mut web::ServiceConfig) {
        let document = &mut OpenApi::default();
        (self.routes)(&mut Routes { config, document });
    }
}

/// Returns the document of `parts`. `api` describes the service, and the tags that it has beside those of every
/// service.
pub(crate) fn document(api: OpenApi, parts: &[Part]) -> OpenApi {
    let mut whole = api;
    whole.security = None;
    for part in parts {
        let mut document = OpenApi::default();
        App::new().configure(|config| {
            (part.routes)(&mut Routes {
                config,
                document: &mut document,
            });
        });
        let paths = document.paths.paths.values_mut();
        for operation in paths.flat_map(operations) {
            let security = &mut operation.security;
            security.get_or_insert_with(|| part.security.clone());
        }
        let components = whole.components.get_or_insert_default();
        for (name, schema) in document.components.take().unwrap_or_default().schemas {
            add_schema(&mut components.schemas, name, schema);
        }
        whole.paths.merge(document.paths);
    }
    complete(&mut whole);
    whole
}

/// Returns the operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Adds what holds for every service, and for every operation of a kind.
fn complete(document: &mut OpenApi) {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    document.info.license = Some(license);
    // Relative to this document: correct at the service's own port, and behind the front door.
    document.servers = Some(vec![Server::new(".")]);

    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(BEARER, bearer);
    let own = [
        (Problem::name(), Problem::schema()),
        (FieldError::name(), FieldError::schema()),
    ];
    for (name, schema) in own {
        add_schema(&mut components.schemas, name.into_owned(), schema);
    }
    let components = components.clone();

    let mut errors = BTreeMap::new();
    let mut tags = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            tags.extend(operation.tags.iter().flatten().cloned());
            add_errors(operation, path, &mut errors);
            describe(operation, &components.schemas);
        }
    }
    let components = document.components.get_or_insert_default();
    components.responses.extend(errors);

    let declared = document.tags.get_or_insert_default();
    declared.retain(|tag| tags.contains(&tag.name));
    for (name, description) in TAGS {
        if tags.iter().any(|tag| tag == name) && !declared.iter().any(|tag| tag.name == name) {
            let mut tag = Tag::new(name);
            tag.description = Some(description.to_owned());
            declared.push(tag);
        }
    }
}

/// The tags of every service.
const TAGS: [(&str, &str); 3] = [
    (
        "operator",
        "Operations for operators: whatever waits for a person, and the actions on it.",
    ),
    (
        "demo",
        "Faults that a demonstration may cause. These routes exist with `DEMO_MODE=true` alone.",
    ),
    ("health", "Health and metrics. No token is needed."),
];

/// A response that follows from an operation's parts.
struct Rule {
    status: &'static str,
    /// The response's name among the components.
    name: &'static str,
    description: &'static str,
    applies: fn(&Operation, &str) -> bool,
}

const RULES: [Rule; 10] = [
    Rule {
        status: "400",
        name: "BadRequest",
        description: "The request cannot be read: its body is not JSON, or broke off, or it has two Authorization headers.",
        applies: |operation, _| operation.request_body.is_some() || is_secured(operation),
    },
    Rule {
        status: "401",
        name: "Unauthenticated",
        description: "The bearer token is missing, expired or not valid.",
        applies: |operation, _| is_secured(operation),
    },
    Rule {
        status: "403",
        name: "Forbidden",
        description: "The role of this token does not allow the operation.",
        applies: |operation, _| is_secured(operation),
    },
    Rule {
        status: "404",
        name: "NotFound",
        description: "The path names nothing that exists.",
        applies: |_, path| path.contains('{'),
    },
    Rule {
        status: "408",
        name: "RequestTimeout",
        description: "The body did not arrive in time.",
        applies: |operation, _| operation.request_body.is_some(),
    },
    Rule {
        status: "413",
        name: "TooLarge",
        description: "The body is larger than the limit.",
        applies: |operation, _| operation.request_body.is_some(),
    },
    Rule {
        status: "415",
        name: "UnsupportedMediaType",
        description: "The body is not sent as application/json.",
        applies: |operation, _| operation.request_body.is_some(),
    },
    Rule {
        status: "422",
        name: "InvalidField",
        description: "A field of the body, the query or the headers is not valid; `errors` names it.",
        applies: |operation, _| {
            operation.request_body.is_some()
                || has_parameter(operation, &ParameterIn::Query)
                || has_parameter(operation, &ParameterIn::Header)
        },
    },
    Rule {
        status: "500",
        name: "Internal",
        description: "The service failed. The cause is logged under the trace that `traceparent` names.",
        applies: |_, path| !is_health(path),
    },
    Rule {
        status: "503",
        name: "Unavailable",
        description: "Not now: too much is in progress, or a dependency of the service is unavailable. Repeat the request \
                      after `Retry-After`, under the same Idempotency-Key if it has one.",
        applies: |_, path| !is_health(path),
    },
];

fn is_secured(operation: &Operation) -> bool {
    let open = SecurityRequirement::default();
    let mut security = operation.security.iter().flatten();
    security.any(|requirement| *requirement != open)
}

fn is_health(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

fn has_parameter(operation: &Operation, place: &ParameterIn) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == *place),
    )
}

/// Adds the responses of the rules, and gives every error its form. The rules' responses are written once, to `shared`.
fn add_errors(
    operation: &mut Operation,
    path: &str,
    shared: &mut BTreeMap<String, RefOr<Response>>,
) {
    for rule in &RULES {
        if (rule.applies)(operation, path)
            && !operation.responses.responses.contains_key(rule.status)
        {
            let mut response = Response::new(rule.description);
            as_problem(rule.status, &mut response);
            shared.insert(rule.name.to_owned(), RefOr::T(response));
            operation.responses.responses.insert(
                rule.status.to_owned(),
                RefOr::Ref(Ref::from_response_name(rule.name)),
            );
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
        {
            as_problem(status, response);
        }
    }
}

/// Turns an error without a content into a problem, with the headers of its status.
fn as_problem(status: &str, response: &mut Response) {
    if !response.content.is_empty() {
        return;
    }
    let problem = RefOr::Ref(Ref::from_schema_name(Problem::name()));
    let content = Content::new(Some(problem));
    response
        .content
        .insert(PROBLEM.to_owned(), RefOr::T(content));
    let header = |kind: Type, description: &str| {
        let mut header = Header::new(Object::with_type(kind));
        header.description = Some(description.to_owned());
        RefOr::T(header)
    };
    match status {
        "401" => {
            let says = header(Type::String, "The scheme: `Bearer`.");
            response.headers.insert("WWW-Authenticate".to_owned(), says);
        }
        "503" => {
            let says = header(
                Type::Integer,
                "The number of seconds after which to repeat the request.",
            );
            response.headers.insert("Retry-After".to_owned(), says);
        }
        _ => {}
    }
}

/// Gives each success without a description that of its schema.
fn describe(operation: &mut Operation, schemas: &BTreeMap<String, RefOr<Schema>>) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        if !response.description.is_empty() {
            continue;
        }
        let content = response.content.get(JSON);
        let schema = content.and_then(|content| match content {
            RefOr::T(content) => content.schema.as_ref(),
            RefOr::Ref(_) => None,
        });
        let described = schema.and_then(|schema| description_of(schema, schemas));
        response.description = described.unwrap_or_else(|| "It is done.".to_owned());
    }
}

fn description_of(
    schema: &RefOr<Schema>,
    schemas: &BTreeMap<String, RefOr<Schema>>,
) -> Option<String> {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            description_of(schemas.get(name)?, schemas)
        }
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::AllOf(all)) => all.description.clone(),
        RefOr::T(Schema::OneOf(one)) => one.description.clone(),
        RefOr::T(Schema::Array(list)) => match &list.items {
            utoipa::openapi::schema::ArrayItems::RefOrSchema(items) => {
                Some(format!("A list. Each: {}", description_of(items, schemas)?))
            }
            utoipa::openapi::schema::ArrayItems::False => None,
        },
        RefOr::T(_) => None,
    }
}
