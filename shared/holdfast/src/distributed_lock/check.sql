insert into fence as newest (resource, fence, holder) values ($1, $2, $3)
on conflict (resource) do update set fence = excluded.fence, holder = excluded.holder
where newest.fence < excluded.fence
   or (newest.fence = excluded.fence and newest.holder = excluded.holder)
returning fence
