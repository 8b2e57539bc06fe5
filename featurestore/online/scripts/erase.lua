-- Replace the version of an identifier by a tombstone that holds only its hash, in one step.
--
-- KEYS     values (hash), index (sorted set)
-- ARGV[1]  the identifier's key; ARGV[2] that of its tombstone
-- ARGV[3]  i64: event time up to which is erased
-- Answer   whether a version was there (0 or 1), and the event time of the tombstone (i64)
--
-- The rule is `decide_erasure` in featurestore/online/base.py. 64-bit integers are handled as two
-- halves, as put.lua does.

local call, sub, unpack_from = redis.call, string.sub, struct.unpack
local EVENT_TIME = 5  -- where a stored value's header has it (featurestore/codec.py), from 1

local function is_before(a, b)
  local low, high = unpack_from('<I4i4', a)
  local other_low, other_high = unpack_from('<I4i4', b)
  return high < other_high or (high == other_high and low < other_low)
end

local function time_of(value)
  return value and sub(value, EVENT_TIME, EVENT_TIME + 7)
end

local stored = time_of(call('HGET', KEYS[1], ARGV[1]))
local erased = time_of(call('HGET', KEYS[1], ARGV[2]))
local through = ARGV[3]
if erased and not is_before(erased, through) then
  return {0, erased}
end
if stored and is_before(through, stored) then
  through = stored
end
-- form 1, flags DELETED, HARD and ERASED, schema version 0, the time, never expires, sequence 0
local never = string.rep('\255', 7) .. '\127'
local value = '\1\7\0\0' .. through .. never .. string.rep('\0', 8)
call('HSET', KEYS[1], ARGV[2], value)
call('ZADD', KEYS[2], 0, ARGV[2])
if stored then
  call('HDEL', KEYS[1], ARGV[1])
  call('ZREM', KEYS[2], ARGV[1])
end
return {stored and 1 or 0, through}
