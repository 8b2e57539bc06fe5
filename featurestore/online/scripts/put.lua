-- Store batches: compare by event time, write, append to the outbox, move source positions.
--
-- Redis runs a script alone and writes its effects to the append-only file as one unit, so this is
-- one transaction over the keys it is given. It reads and decides before it writes wherever a
-- batch can be refused as a whole.
--
-- KEYS     four for each feature group: values (hash), index (sorted set), outbox (stream),
--          state (hash); then one for each source: positions (hash)
-- ARGV[1]  how many groups
-- ARGV[2]  u64: new sequences are greater than this one
-- ARGV[3]  the batches, as featurestore/online/redis_wire.py writes them
-- ARGV[4]  the store's name, which the hashes of erased identifiers begin with
-- ARGV[5]  only in a cluster, for a batch from a redo log: the field that marks in the group's
--          state what was applied of this source; ARGV[6] number and ARGV[7] name of the batch
-- Answer   the greatest sequence given (u64), then for each batch one digit per write (Outcome),
--          or, when its position conflicts, the stored positions as a list. {'stale'} when a later
--          batch of the redo log was applied.
--
-- Lua's numbers are doubles and exact up to 2^53 only, and Lua compares strings by the locale. So
-- 64-bit integers are handled as two halves of 32 bits each: (high, low), the order of the pairs is
-- the order of the integers. A sequence's pair is also its stream ID, `high-low`.

local call, sub = redis.call, string.sub
local pack, unpack_from = struct.pack, struct.unpack

local ONLINE, OFFLINE, EXPECTED, LONG = 1, 2, 4, 8
local DELETED, HARD = 1, 2
local APPLIED, HISTORIC, REFUSED, CHANGED, ERASED = 0, 1, 2, 3, 4
-- Where a stored value's header has its fields (featurestore/codec.py), from 1.
local FLAGS, EVENT_TIME, SEQUENCE, HEADER = 2, 5, 21, 28
local NOTHING = string.rep('\0', 8)  -- no version has the sequence 0

local function has(flags, flag)
  return flags % (2 * flag) >= flag
end

local groups = tonumber(ARGV[1])
local floor_low, floor_high = unpack_from('<I4I4', ARGV[2])
local blob = ARGV[3]
local top_low, top_high = floor_low, floor_high

if ARGV[5] then
  local number, name, outcomes = string.match(
    call('HGET', KEYS[4], ARGV[5]) or '', '^(%d+) (%x+) (%d*)$')
  if name == ARGV[7] then
    return {ARGV[2], outcomes}
  end
  if number and tonumber(number) >= tonumber(ARGV[6]) then
    return {'stale'}
  end
end

local lasts = {}  -- group -> {low, high} of its last sequence
local touched = {}

local function next_sequence(group)
  local last = lasts[group]
  if not last then
    local stored = call('HGET', KEYS[4 * group + 4], 'sequence')
    local low, high = floor_low, floor_high
    if stored then
      local stored_low, stored_high = unpack_from('<I4I4', stored)
      if stored_high > high or (stored_high == high and stored_low > low) then
        low, high = stored_low, stored_high
      end
    end
    last = {low, high}
    lasts[group] = last
  end
  touched[group] = true
  if last[1] == 4294967295 then
    last[1], last[2] = 0, last[2] + 1
  else
    last[1] = last[1] + 1
  end
  return last[1], last[2]
end

-- The rule of order, as `decide` in featurestore/online/base.py has it.
local function decide(entry, stored, expected)
  if expected then
    local found = stored and sub(stored, SEQUENCE, SEQUENCE + 7) or NOTHING
    return found == expected and APPLIED or CHANGED
  end
  if not stored then
    return APPLIED
  end
  local low, high = unpack_from('<I4i4', entry, EVENT_TIME)
  local stored_low, stored_high = unpack_from('<I4i4', stored, EVENT_TIME)
  if high > stored_high or (high == stored_high and low > stored_low) then
    return APPLIED
  end
  local flags = string.byte(entry, FLAGS)
  if high == stored_high and low == stored_low and not has(flags, DELETED) then
    return APPLIED
  end
  return has(flags, HARD) and REFUSED or HISTORIC
end

-- Whether an erasure of the identifier covers the entry (codec.erased_key, OnlineStore.erase).
local erasures = {}
local function is_erased(group, key, entry, long)
  local first = 4 * group
  if erasures[group] == nil then
    local marks = call('ZRANGEBYLEX', KEYS[first + 2], '[\254', '(\255', 'LIMIT', 0, 1)
    erasures[group] = #marks > 0
  end
  if not erasures[group] then
    return false
  end
  local identifier = long ~= '' and sub(long, 3) or key
  local mark = '\254' .. redis.sha1hex(ARGV[4] .. identifier)
  local erased = call('HGET', KEYS[first + 1], mark)
  if not erased then
    return false
  end
  local low, high = unpack_from('<I4i4', entry, EVENT_TIME)
  local erased_low, erased_high = unpack_from('<I4i4', erased, EVENT_TIME)
  return high < erased_high or (high == erased_high and low <= erased_low)
end

-- A partition must stand at the batch's start or have no position yet.
local function advance(key, parts, at)
  local moved, fields = {}, {}
  for _ = 1, parts do
    local partition_size, start_size, next_size
    partition_size, start_size, next_size, at = unpack_from('<HBB', blob, at)
    local partition = sub(blob, at, at + partition_size - 1)
    at = at + partition_size
    local start = sub(blob, at, at + start_size - 1)
    at = at + start_size
    local following = sub(blob, at, at + next_size - 1)
    at = at + next_size
    local stands = moved[partition] or call('HGET', key, partition)
    if stands and stands ~= start then
      return call('HGETALL', key)
    end
    moved[partition] = following
    fields[#fields + 1] = partition
    fields[#fields + 1] = following
  end
  for i = 1, #fields, 2 do
    call('HSET', key, fields[i], fields[i + 1])
  end
  return nil
end

local function put_one(group, control, key, entry, expected, long)
  if is_erased(group, key, entry, long) then
    return ERASED
  end
  local first = 4 * group
  local online = has(control, ONLINE)
  local outcome, stored = APPLIED, false
  if online then
    stored = call('HGET', KEYS[first + 1], key)
    outcome = decide(entry, stored, expected)
  end
  if outcome >= REFUSED then
    return outcome
  end
  local low, high = next_sequence(group)
  if online and outcome == APPLIED then
    local record = has(string.byte(entry, FLAGS), DELETED) and '' or sub(entry, HEADER + 1)
    local value = sub(entry, 1, SEQUENCE - 1) .. pack('<I4I4', low, high) .. long .. record
    call('HSET', KEYS[first + 1], key, value)
    if not stored then
      call('ZADD', KEYS[first + 2], 0, key)
    end
  end
  if has(control, OFFLINE) then
    call('XADD', KEYS[first + 3], string.format('%d-%d', high, low), 'e', entry)
  end
  return outcome
end

local answers = {''}
local batches, at = unpack_from('<I4', blob)
for _ = 1, batches do
  local parts, source, size, writes
  parts, source, size, writes, at = unpack_from('<HHI4I4', blob, at)
  local conflict
  if parts > 0 then
    conflict = advance(KEYS[4 * groups + source + 1], parts, at)
  end
  at = at + size
  local outcomes = {}
  for i = 1, writes do
    local group, control, key_size, entry_size
    group, control, key_size, entry_size, at = unpack_from('<HBHI4', blob, at)
    local key = sub(blob, at, at + key_size - 1)
    at = at + key_size
    local entry = sub(blob, at, at + entry_size - 1)
    at = at + entry_size
    local expected
    if has(control, EXPECTED) then
      expected = sub(blob, at, at + 7)
      at = at + 8
    end
    local long = ''
    if has(control, LONG) then
      local long_size
      long_size, at = unpack_from('<H', blob, at)
      long = sub(blob, at - 2, at + long_size - 1)  -- with its length, as the value has it
      at = at + long_size
    end
    if not conflict then
      outcomes[i] = put_one(group, control, key, entry, expected, long)
    end
  end
  answers[#answers + 1] = conflict or table.concat(outcomes)
end

for group in pairs(touched) do
  local low, high = lasts[group][1], lasts[group][2]
  call('HSET', KEYS[4 * group + 4], 'sequence', pack('<I4I4', low, high))
  if high > top_high or (high == top_high and low > top_low) then
    top_low, top_high = low, high
  end
end
if ARGV[5] then
  call('HSET', KEYS[4], ARGV[5], ARGV[6] .. ' ' .. ARGV[7] .. ' ' .. answers[2])
end
answers[1] = pack('<I4I4', top_low, top_high)
return answers
