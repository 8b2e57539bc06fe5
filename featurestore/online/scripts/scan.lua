-- Read the versions of a feature group behind a key, in the order of keys.
--
-- KEYS     values (hash), index (sorted set)
-- ARGV[1]  where to begin, as ZRANGEBYLEX takes it
-- ARGV[2]  at most how many versions
-- ARGV[3]  when their values reach so many bytes, no more
-- Answer   key, value, key, value ...

local found, size = {}, 0
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local value = redis.call('HGET', KEYS[1], key)
  if value then
    found[#found + 1] = key
    found[#found + 1] = value
    size = size + #value
    if size >= tonumber(ARGV[3]) then
      break
    end
  end
end
return found
