"""Pure: no I/O, no clock, no task. What Redis does in one step: the Lua scripts of the journal, and their limits.

A namespace has these keys, all with one hash tag (``keys.py`` names them):

    head   hash        e epoch · o newest offset · f floor · i id of the newest · b bytes so far
                       n:NODE its last number · t next round of housekeeping · m bytes at the last mark
                       g from when on all ids are known (0: ever) · h when the new ids began · c at which offset
    log    stream      OFFSET-0 → i id, p previous offsets, m the sealed message
    rooms  sorted set  channel → offset of its newest entry; the longest unused go first, and raise the floor
    ids    hash        NODE:NUMBER → offset; ``ids:old`` is the one before it
    marks  list        time, offset and bytes so far: where to cut by age and by size

An offset in ``p`` is *at most*: nothing of that channel lies between it and this entry. It is the channel's newest
entry where that is known, else the floor, below which channels may have been forgotten. A reader that is complete
up to there has missed nothing; one that is not reads the log, and so a forgotten channel is never a silent hole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LogLimits:
    """What of a namespace is kept in Redis."""

    entries: int = 10_000
    """Redis cuts whole blocks of its stream, so up to about a hundred more stay."""
    seconds: float = 3_600
    size_bytes: int = 64 << 20
    channels: int = 100_000
    """Whose newest offset is known exactly; about 12 MB."""
    ids: int = 200_000
    """Of the newest drafts, in two halves: a repeated one gets its first position; about 30 MB."""
    ids_seconds: float = 600
    """Each half is kept so long, where ``ids`` allows it."""
    head_seconds: float = 7 * 86_400
    """A namespace of which nobody hears anything for so long begins anew, with another epoch."""


# What both scripts begin with. A log that is empty was lost. One that is behind what somebody has seen went back
# (an older file, a replica that lagged). Both get a new epoch, greater than any that is known: its first twelve
# digits are a time that is pushed forward where the clock is behind.
_BEGIN: Final = """
local head, log, rooms, ids, ids_old, marks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function stamp(epoch) return epoch and tonumber(string.sub(epoch, 1, 12), 16) or 0 end

local function begin_anew(known, seen, fresh)
    local first = math.max(now, stamp(known) + 1, stamp(seen) + 1)
    local epoch = string.format('%012x', first) .. fresh
    redis.call('HSET', head, 'e', epoch)  -- refused where memory is full, and then nothing is taken away
    redis.call('UNLINK', head, log, rooms, ids, ids_old, marks)
    redis.call('HSET', head, 'e', epoch, 'o', 0, 'f', 0, 'i', '', 'b', 0, 't', 0, 'm', 0, 'g', 0, 'h', now, 'c', 0)
    redis.call('PEXPIRE', head, $HEAD_MS)
    redis.call('$PUBLISH', log .. '*', 'N' .. epoch .. '\\n')
    return epoch
end

local function behind(epoch, offset, id, seen, seen_offset, seen_id)
    if not epoch then return true end
    if seen == '' then return false end
    if seen ~= epoch then return stamp(seen) >= stamp(epoch) end
    return seen_offset > offset or (seen_offset == offset and seen_id ~= '' and seen_id ~= id)
end

local function strayed(epoch, offset, seen, seen_offset, seen_id)
    if seen ~= epoch or seen_id == '' or seen_offset >= offset then return false end
    if redis.call('HGET', ids, seen_id) == whole(seen_offset) then return false end
    local kept = redis.call('XRANGE', log, whole(seen_offset) .. '-0', whole(seen_offset) .. '-0')[1]
    return kept and kept[2][2] ~= seen_id
end
"""

# ARGV: sealed, node, number, age in ms, seen epoch, offset and id, eight fresh characters, the number of what this node
# has offered just before and was not answered ('': nothing), channels…
# → {epoch, offset, previous, what}; what: "new", "again", "late" (kept before or not: nobody knows any more), or
# "early": what was offered before it is not kept, so this is not either, for it would stand before that in the log.
_APPEND: Final = """
local node, number, seen, seen_offset = ARGV[2], tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[6])
local id, count = node .. ':' .. ARGV[3], #ARGV - 9
local known = redis.call('HMGET', head, 'e', 'o', 'f', 'i', 'b', 't', 'm', 'g', 'h', 'c', 'n:' .. node)
local epoch = known[1]
local offset, last = tonumber(known[2]), tonumber(known[11])
if behind(epoch, offset, known[4], seen, seen_offset, ARGV[7])
    or strayed(epoch, offset, seen, seen_offset, ARGV[7]) then
    epoch = begin_anew(epoch, seen, ARGV[8])
    known, offset, last = {epoch, 0, '0', '', 0, 0, 0, 0, now, 0}, 0, nil
end
if ARGV[9] ~= '' and tonumber(ARGV[9]) > (last or -1) then return {epoch, '0', '', 'early'} end
if last and number <= last then
    local first = redis.call('HGET', ids, id) or redis.call('HGET', ids_old, id)
    if first then
        local kept = redis.call('XRANGE', log, first .. '-0', first .. '-0')[1]
        return {epoch, first, kept and kept[2][4] or '', kept and 'again' or 'late'}
    end
    -- Two seconds for the way here: what was offered before the oldest id that is remembered may have been kept.
    local age = tonumber(ARGV[4]) + 2000
    if age > $IDS_MS or now - age < tonumber(known[8]) then return {epoch, '0', '', 'late'} end
end
local at, joined
local channels, scores = {}, {}
for i = 1, count do channels[i] = ARGV[9 + i] end
local function keep()
    offset = offset + 1
    at = whole(offset)
    local previous = redis.call('ZMSCORE', rooms, unpack(channels))
    local floor = known[3]
    if offset > 1 and redis.call('EXISTS', rooms) == 0 then  -- taken away (an eviction): anything may lie below
        floor = whole(offset - 1)
        redis.call('HSET', head, 'f', floor)
    end
    for i = 1, count do
        previous[i] = previous[i] and whole(previous[i]) or floor
        scores[2 * i - 1], scores[2 * i] = at, channels[i]
    end
    joined = table.concat(previous, ',')
    return redis.pcall('XADD', log, 'MAXLEN', '~', $ENTRIES, at .. '-0', 'i', id, 'p', joined, 'm', ARGV[1])
end
local answer = keep()
if type(answer) == 'table' then  -- full memory, say; or the stream is ahead, so it is not of one log with its head
    if not string.find(answer.err, 'smaller', 1, true) then return answer end
    epoch = begin_anew(epoch, seen, ARGV[8])
    known, offset, last = {epoch, 0, '0', '', 0, 0, 0, 0, now, 0}, 0, nil
    keep()
end
local added = redis.call('ZADD', rooms, unpack(scores))
redis.call('HSET', ids, id, at)
local size = tonumber(known[5]) + #ARGV[1] + 100
local due, base = tonumber(known[6]), tonumber(known[7])
redis.call('HSET', head, 'o', at, 'i', id, 'b', whole(size), 'n:' .. node, whole(math.max(number, last or 0)))
local message = 'E' .. epoch .. ' ' .. at .. ' ' .. joined .. '\\n' .. ARGV[1]
for i = 1, count do redis.call('$PUBLISH', log .. channels[i], message) end
if added > 0 and redis.call('ZCARD', rooms) > $CHANNELS then
    local gone = redis.call('ZRANGE', rooms, 999, 999, 'WITHSCORES')
    redis.call('ZREMRANGEBYRANK', rooms, 0, 999)
    redis.call('HSET', head, 'f', gone[2])
end
if now >= due or size - base > $MARK_BYTES or offset - tonumber(known[10]) >= $HALF_IDS then
    housekeeping(offset, size, tonumber(known[9]), tonumber(known[10]))
end
return {epoch, at, joined, 'new'}
"""

# Now and then, from within an append.
_HOUSEKEEPING: Final = """
local function forget_nodes()
    local fields, nodes, gone = redis.call('HKEYS', head), {}, {}
    for _, field in ipairs(fields) do if string.sub(field, 1, 2) == 'n:' then nodes[#nodes + 1] = field end end
    if #nodes <= 500 then return end
    for _, field in ipairs(nodes) do
        local id = string.sub(field, 3) .. ':' .. redis.call('HGET', head, field)
        if redis.call('HEXISTS', ids, id) + redis.call('HEXISTS', ids_old, id) == 0 then gone[#gone + 1] = field end
        if #gone == 500 then break end
    end
    if #gone > 0 then redis.call('HDEL', head, unpack(gone)) end
end

local function housekeeping(offset, size, ids_began, ids_offset)
    redis.call('RPUSH', marks, now .. ' ' .. whole(offset) .. ' ' .. whole(size))
    local cut
    for _ = 1, 200 do
        local oldest = redis.call('LINDEX', marks, 0)
        local made, at, bytes = string.match(oldest, '(%d+) (%d+) (%d+)')
        if now - made < $LOG_MS and size - bytes <= $BYTES then break end
        cut = at
        redis.call('LPOP', marks)
        if redis.call('LLEN', marks) == 0 then break end
    end
    if cut then redis.call('XTRIM', log, 'MINID', whole(cut + 1)) end
    if now - ids_began > $IDS_MS or offset - ids_offset >= $HALF_IDS then
        if redis.call('EXISTS', ids_old) == 1 then redis.call('HSET', head, 'g', ids_began) end
        if redis.call('EXISTS', ids) == 1 then redis.call('RENAME', ids, ids_old) end
        redis.call('HSET', head, 'h', now, 'c', whole(offset))
        forget_nodes()
    end
    redis.call('HSET', head, 't', now + $EVERY_MS, 'm', whole(size))
    for _, key in ipairs({log, marks}) do redis.call('PEXPIRE', key, $LOG_MS + 2 * $EVERY_MS) end
    for _, key in ipairs({ids, ids_old}) do redis.call('PEXPIRE', key, 2 * $IDS_MS) end
    for _, key in ipairs({head, rooms}) do redis.call('PEXPIRE', key, $HEAD_MS) end
end
"""

# ARGV: seen epoch, offset and id, eight fresh characters, channels…
# → {epoch, newest offset, its id, the newest offset of each channel or ''}. Begins a log where there is none, and a
# new one where this one is not what somebody has seen: behind it, or with another entry in that place.
_CHECK: Final = """
local known = redis.call('HMGET', head, 'e', 'o', 'i')
local epoch, offset, id, seen_offset = known[1], tonumber(known[2]), known[3], tonumber(ARGV[2])
if behind(epoch, offset, id, ARGV[1], seen_offset, ARGV[3])
    or strayed(epoch, offset, ARGV[1], seen_offset, ARGV[3]) then
    epoch, offset, id = begin_anew(epoch, ARGV[1], ARGV[4]), 0, ''
else
    for _, key in ipairs({head, rooms}) do redis.call('PEXPIRE', key, $HEAD_MS) end
end
local answer = {epoch, whole(offset), id}
if #ARGV > 4 then
    local channels = {}
    for i = 5, #ARGV do channels[i - 4] = ARGV[i] end
    for i, score in ipairs(redis.call('ZMSCORE', rooms, unpack(channels))) do
        answer[3 + i] = score and whole(score) or ''
    end
end
return answer
"""

# ARGV: epoch and offset after which to read, how many entries, how many bytes
# → {epoch, newest offset, "here" or "gone", then for each entry offset, id, previous and sealed}
_PAGE: Final = """
local known = redis.call('HMGET', head, 'e', 'o')
local answer = {known[1] or '', known[2] or '0', 'here'}
local newest, at, room, size = tonumber(answer[2]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if known[1] ~= ARGV[1] or at > newest then
    answer[3] = 'gone'
    return answer
end
while at < newest and room > 0 and size > 0 do
    local chunk = redis.call('XRANGE', log, whole(at + 1) .. '-0', '+', 'COUNT', math.min(room, 16))
    if #chunk == 0 then chunk = {{'gone'}} end
    for _, entry in ipairs(chunk) do
        if entry[1] ~= whole(at + 1) .. '-0' then
            answer[3] = 'gone'
            return answer
        end
        at, room, size = at + 1, room - 1, size - #entry[2][6]
        local n = #answer
        answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = whole(at), entry[2][2], entry[2][4], entry[2][6]
        if size <= 0 then break end
    end
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which Redis knows it."""

    text: bytes
    sha: bytes

    @classmethod
    def of(cls, text: str) -> Script:
        encoded = text.encode()
        return cls(encoded, hashlib.sha1(encoded, usedforsecurity=False).hexdigest().encode())


def _fill(text: str, limits: LogLimits, sharded: bool) -> Script:
    log_ms = int(limits.seconds * 1000)
    values = {
        "PUBLISH": "SPUBLISH" if sharded else "PUBLISH",
        "ENTRIES": limits.entries,
        "CHANNELS": limits.channels,
        "HALF_IDS": max(1, limits.ids // 2),
        "IDS_MS": int(limits.ids_seconds * 1000),
        "HEAD_MS": int(limits.head_seconds * 1000),
        "LOG_MS": log_ms,
        "EVERY_MS": max(1, log_ms // 60),
        "BYTES": limits.size_bytes,
        "MARK_BYTES": limits.size_bytes // 32,
    }
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${name}", str(values[name]))
    return Script.of(text)


class Scripts:
    """The journal's scripts for these limits; the same limits on every node, or each uses its own."""

    def __init__(self, limits: LogLimits, *, sharded: bool) -> None:
        self.append = _fill(_BEGIN + _HOUSEKEEPING + _APPEND, limits, sharded)
        self.check = _fill(_BEGIN + _CHECK, limits, sharded)
        self.page = _fill(_BEGIN + _PAGE, limits, sharded)
