"""Pure: no I/O, no clock, no task. What Redis does in one step with the sessions that may come back.

A session lies in one of ``BUCKETS`` by its secret, so that a Cluster shares the work; a bucket has one hash tag:

    p:NAME  hash        s state · h channel of the node that has it · r the sealed record · w who (namespace and sid)
                        m the rooms it is in, as far as is known here · c how many changes · 1, 2, … sealed changes,
                        r1, r2, … the same for ``m``: E or L, and the room
                        x when it expires; it lies here a little longer, for whoever tells that nobody came back
    all     sorted set  NAME → when it expires: the bound, and the way through all of them
    sids    hash        who → NAME
    who     hash        NAME → who, for when the session itself has expired

NAME is a digest of the secret, which itself is no part of any key. States: ``k`` kept; ``c`` claimed, until whoever
claimed it keeps it; ``f`` forgotten, so that a late keep does not bring it back.
"""

from __future__ import annotations

from typing import Final

from adapters.redis.scripts import Script

BUCKETS: Final = 16
CHANGES_LIMIT: Final = 1_000
"""Rooms entered and left for a client that is away; beyond it nobody proves it complete."""
AFTER_SECONDS: Final = 60
"""So long an expired session waits for a node that tells of it: its own, or another where that one is dead."""
FORGOTTEN_SECONDS: Final = 300
"""Longer than any keep is on its way."""

_BEGIN: Final = """
local all, sids, who = KEYS[1], KEYS[2], KEYS[3]
local base = string.sub(all, 1, -4)
local function drop(name)
    local known = redis.call('HGET', who, name)
    if known then
        if redis.call('HGET', sids, known) == name then redis.call('HDEL', sids, known) end
        redis.call('HDEL', who, name)
    end
    redis.call('ZREM', all, name)
end
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function lives(key)
    local known = redis.call('HMGET', key, 's', 'x')
    return known[1] == 'k' and tonumber(known[2]) > now()
end
"""

_ROOMS: Final = """
local function with(rooms, kind, room)  -- and whether this is a change
    local from = string.find('\\n' .. rooms, '\\n' .. room, 1, true)
    if kind == 'E' then return from and rooms or rooms .. room, not from end
    if not from then return rooms, false end
    return string.sub(rooms, 1, from - 1) .. string.sub(rooms, from + #room), true
end
"""

# ARGV: the node's channel, how long in ms, how many at most, "A" for clients that are away, then for each its name,
# who, rooms and sealed record → {how many were put out by the bound, names that are not this node's any more…}
# Of a client that is away the changes stay: who made this record may not have heard of them.
KEEP: Final = Script.of(
    _BEGIN
    + _ROOMS
    + f"""
local node, ttl, most, time = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), now()
local after = {AFTER_SECONDS * 1000}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', time - after, 'LIMIT', 0, 200)) do
    if redis.call('EXISTS', base .. 'p:' .. name) == 0 then drop(name) end
end
local answer = {{0}}
for i = 5, #ARGV, 4 do
    local name, key = ARGV[i], base .. 'p:' .. ARGV[i]
    local known = redis.call('HMGET', key, 's', 'h', 'c')
    if known[1] and (known[1] == 'f' or known[2] ~= node) then
        answer[#answer + 1] = name
    else
        local rooms, count, changes = ARGV[i + 2], 0, {{}}
        if ARGV[4] == 'A' and known[1] == 'k' then
            count = tonumber(known[3])
            for n = 1, math.min(count, {CHANGES_LIMIT}) do
                local made = redis.call('HMGET', key, n, 'r' .. n)
                rooms = with(rooms, string.sub(made[2], 1, 1), string.sub(made[2], 2))
                for at, each in ipairs({{n, made[1], 'r' .. n, made[2]}}) do changes[4 * n - 4 + at] = each end
            end
        end
        redis.call('DEL', key)
        redis.call('HSET', key, 's', 'k', 'h', node, 'w', ARGV[i + 1], 'm', rooms, 'r', ARGV[i + 3], 'c', count,
            'x', time + ttl, unpack(changes))
        redis.call('PEXPIRE', key, ttl + after)
        redis.call('ZADD', all, time + ttl, name)
        redis.call('HSET', sids, ARGV[i + 1], name)
        redis.call('HSET', who, name, ARGV[i + 1])
    end
end
local over = redis.call('ZCARD', all) - most
if over > 0 then
    for _, name in ipairs(redis.call('ZRANGE', all, 0, over - 1)) do
        redis.call('DEL', base .. 'p:' .. name)
        drop(name)
    end
    answer[1] = over
end
for i = 1, 3 do  -- never shorter than for those that lie here longer
    local most = 2 * (ttl + after)
    if redis.call('PTTL', KEYS[i]) < most then redis.call('PEXPIRE', KEYS[i], most) end
end
return answer
"""
)

# ARGV: name, the claiming node's channel, what the one before is told → the fields of the session, or nothing
CLAIM: Final = Script.of(
    _BEGIN
    + """
local key = base .. 'p:' .. ARGV[1]
if not lives(key) then return false end
local fields, holder = redis.call('HGETALL', key), redis.call('HGET', key, 'h')
redis.call('HSET', key, 's', 'c', 'h', ARGV[2])
if holder ~= ARGV[2] then redis.call('PUBLISH', holder, ARGV[3]) end
return fields
"""
)

# ARGV: name → the fields of the session, or nothing
LOOK: Final = Script.of(
    _BEGIN
    + """
local key = base .. 'p:' .. ARGV[1]
if not lives(key) then return false end
return redis.call('HGETALL', key)
"""
)

_FORGET: Final = f"""
local function forget(name)
    local key = base .. 'p:' .. name
    drop(name)
    redis.call('DEL', key)
    redis.call('HSET', key, 's', 'f')
    redis.call('PEXPIRE', key, {FORGOTTEN_SECONDS * 1000})
end
"""

# ARGV: names…
FORGET: Final = Script.of(
    _BEGIN
    + _FORGET
    + """
for _, name in ipairs(ARGV) do forget(name) end
return #ARGV
"""
)

# ARGV: who → 1 when there was such a session
FORGET_ONE: Final = Script.of(
    _BEGIN
    + _FORGET
    + """
local name = redis.call('HGET', sids, ARGV[1])
if not name or not lives(base .. 'p:' .. name) then return 0 end
forget(name)
return 1
"""
)

# ARGV: a name, or '' for any that expired so many ms ago; how many; how long ago → {fields of those that expired, …}:
# each is answered once
REAP: Final = Script.of(
    _BEGIN
    + """
local time, names, answer = now(), {ARGV[1]}, {}
if ARGV[1] == '' then names = redis.call('ZRANGEBYSCORE', all, '-inf', time - ARGV[3], 'LIMIT', 0, ARGV[2]) end
for _, name in ipairs(names) do
    local key = base .. 'p:' .. name
    local ends = redis.call('HGET', key, 'x')
    if not ends then
        drop(name)
    elseif tonumber(ends) <= time - ARGV[3] then
        answer[#answer + 1] = redis.call('HGETALL', key)
        redis.call('DEL', key)
        drop(name)
    end
end
return answer
"""
)

# ARGV: name or '', who, "E" or "L", room, the sealed change → 1 when it was for this session
CHANGE: Final = Script.of(
    _BEGIN
    + _ROOMS
    + f"""
local name = ARGV[1] ~= '' and ARGV[1] or redis.call('HGET', sids, ARGV[2])
if not name then return 0 end
local key, room = base .. 'p:' .. name, ARGV[4] .. '\\n'
if not lives(key) then return 0 end
local rooms, changed = with(redis.call('HGET', key, 'm'), ARGV[3], room)
if ARGV[3] == 'L' and not changed then return 0 end
redis.call('HSET', key, 'm', rooms)
local count = redis.call('HINCRBY', key, 'c', 1)
if count <= {CHANGES_LIMIT} then redis.call('HSET', key, count, ARGV[5], 'r' .. count, ARGV[3] .. room) end
return 1
"""
)

# ARGV: from which rank, how many, namespace, room, sid or '' → {how many there were, names in that room…}
FIND: Final = Script.of(
    _BEGIN
    + """
local names = redis.call('ZRANGE', all, ARGV[1], ARGV[1] + ARGV[2] - 1)
local answer = {#names}
local space, room = ARGV[3] .. '\\n', '\\n' .. ARGV[4] .. '\\n'
for _, name in ipairs(names) do
    local known = redis.call('HMGET', base .. 'p:' .. name, 's', 'w', 'm')
    if known[1] == 'k' and lives(base .. 'p:' .. name) and string.sub(known[2], 1, #space) == space then
        if string.find('\\n' .. known[3], room, 1, true) or (ARGV[5] ~= '' and known[2] == space .. ARGV[5]) then
            answer[#answer + 1] = name
        end
    end
end
return answer
"""
)
