-- End a batch that was applied to all its groups.
--
-- KEYS[1]  redo log (hash)
-- ARGV[1]  the batch's name: another batch, begun meanwhile, stays
-- Answer   1 when it was there

if redis.call('HGET', KEYS[1], 'name') == ARGV[1] then
  return redis.call('UNLINK', KEYS[1])
end
return 0
