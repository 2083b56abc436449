-- What an owner sees of an endpoint, page by page: an index that is read in one direction, whatever the page.
create index webhook_newest on webhook (endpoint_id, created_at, id);
drop index webhook_recent;
