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

-- Reads everything, changes nothing: `reconcile` compares the books of all services.
create role auditor login password 'development-auditor' in role pg_read_all_data;
grant connect on database order_service, payment_service, inventory_service, notification_service, orchestrator_service,
    card_processor to auditor;
