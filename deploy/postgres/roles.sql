-- A database and a role per service; no service can even connect to another's. The passwords are for development and say so.
create role order_service login password 'development-order';
create role payment_service login password 'development-payment';
create role inventory_service login password 'development-inventory';
create role notification_service login password 'development-notification';
create role orchestrator_service login password 'development-orchestrator';
create role card_processor login password 'development-card-processor';

create database order_service owner order_service;
create database payment_service owner payment_service;
create database inventory_service owner inventory_service;
create database notification_service owner notification_service;
create database orchestrator_service owner orchestrator_service;
create database card_processor owner card_processor;

revoke connect, temporary on database order_service, payment_service, inventory_service, notification_service,
    orchestrator_service, card_processor from public;

-- `reconcile` and the control room compare the books of all services. In each database the auditor has the views of the schema
-- `audit`, which the service's own migrations make (services/*/audit), and no table: no secret, address or card token is in
-- them. An auditor of before reads everything: docs/deploy.md says how to change that.
create role auditor login password 'development-auditor';
alter role auditor set search_path = audit;
grant connect on database order_service, payment_service, inventory_service, notification_service, orchestrator_service,
    card_processor to auditor;

\connect order_service
create schema audit authorization order_service;
grant usage on schema audit to auditor;
alter default privileges for role order_service in schema audit grant select on tables to auditor;

\connect payment_service
create schema audit authorization payment_service;
grant usage on schema audit to auditor;
alter default privileges for role payment_service in schema audit grant select on tables to auditor;

\connect inventory_service
create schema audit authorization inventory_service;
grant usage on schema audit to auditor;
alter default privileges for role inventory_service in schema audit grant select on tables to auditor;

\connect notification_service
create schema audit authorization notification_service;
grant usage on schema audit to auditor;
alter default privileges for role notification_service in schema audit grant select on tables to auditor;

\connect orchestrator_service
create schema audit authorization orchestrator_service;
grant usage on schema audit to auditor;
alter default privileges for role orchestrator_service in schema audit grant select on tables to auditor;

\connect card_processor
create schema audit authorization card_processor;
grant usage on schema audit to auditor;
alter default privileges for role card_processor in schema audit grant select on tables to auditor;
