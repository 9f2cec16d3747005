-- ARGV 5: fields of 10 bytes (scope, hash), 6: u16 for each, its key; 7: releases, each u16 field and u24 count;
-- 8, 9: seats and anonymous seats given back; 10: admissions, each u16 address, prefix, user, anonymous address, and
-- a byte: 1 exempt, 2 unknown address, 4 a seat that moves to the user, which takes nothing else, 8 a newcomer that
-- replaces the oldest seat of its user, 16 a question whether it may open, 32 one that was asked in vain. Field 0 is none; 11: for each admission u16 key of the connect rate of the
-- network, and of the user, or 0; 12: '1' if nothing may be admitted that was possibly lost. 13: 16 bytes for
-- each newcomer that may replace a seat, and each question that was asked in vain, the digest of its user; 14: number of the stream's key, or '0'. Returns one
-- character for each admission: '0', or '0' plus the code of the limit, or plus 11: it has its seat, and waits until the
-- user is no longer over the limit; then u24 ms for each that a rate refused.
local F, B, R, Q = ARGV[5], ARGV[6], ARGV[7], ARGV[10]
local m = call('HMGET', M, 'lT', 'lP', 'lI', 'lU', 'lA', 'lAI', 'lX', 'T', 'A', 'live', 'here', 'T' .. I, 'A' .. I, 'du',
  'qI', 'bI', 'qU', 'bU', 'born', 'dt')
local lT, lP, lI, lU, lA, lAI, lX = num(m[1]), num(m[2]), num(m[3]), num(m[4]), num(m[5]), num(m[6]), num(m[7])
local live, here = m[10], m[11]
local n = #B / 2
local field, key, own, others, rest, dirty = {}, {}, {}, {}, {}, {}
-- Where the caller's entry stands in the others': entries are in the order of their latest admission.
local place = {}
for j = 1, n do
  local f = sub(F, j * 10 - 9, j * 10)
  local hi, lo = byte(B, j * 2 - 1, j * 2)
  local k = KEYS[hi * 256 + lo]
  field[j] = f; key[j] = k
  local o, s, r = 0, 0, ''
  local v = call('HGET', k, f)
  if v then
    for p = 1, #v, 5 do
      local a, b, c, d, e = byte(v, p, p + 4)
      local id = a * 256 + b
      if id == me then
        o = c * 65536 + d * 256 + e
        place[j] = #r + 1
      elseif bit(here, id) then
        -- A node that joins keeps its entries, and counts once its bit is on.
        if bit(live, id) then s = s + c * 65536 + d * 256 + e end
        r = r .. sub(v, p, p + 4)
      end
    end
  end
  own[j] = o; others[j] = s; rest[j] = r
  place[j] = place[j] or #r + 1
end
local function less(a, b) return a > b and a - b or 0 end
for p = 1, #R, 5 do
  local a, b, c, d, e = byte(R, p, p + 4)
  local j = a * 256 + b
  own[j] = less(own[j], c * 65536 + d * 256 + e)
  dirty[j] = true
end
local T0, A0 = num(m[12]), num(m[13])
local mT, mA = less(T0, num(ARGV[8])), less(A0, num(ARGV[9]))
local T, A = num(m[8]) - T0, num(m[9]) - A0
local out, q = {}, 0
local W = ARGV[11]
local now = (num(m[14]) > 0 or W ~= '') and clock() or 0
-- More is left of it only on a clock that was set back: then each process knows the end of the drain itself.
local drains = num(m[14]) > now and num(m[14]) - now <= num(m[20])
local wait, ahead = '', {}
local function spare(j, interval, burst)
  if j == 0 or interval == 0 then return 0 end
  ahead[j] = ahead[j] or ahead_of(KEYS[j], now, interval, burst, ARGV[12] == '1' and num(m[19]))
  return late_by(ahead[j], interval, burst, 1)
end
local qI, bI, qU, bU = num(m[15]), num(m[16]), num(m[17]), num(m[18])
local function take(j)
  if j > 0 then own[j] = own[j] + 1; place[j] = #rest[j] + 1; dirty[j] = true end
end
local function full(j, limit) return own[j] + others[j] >= limit end
-- The seat number `s`, from 0, of the field `j`. Returns the index of its process, and how many it may keep.
local function seat(j, s)
  local r = rest[j]
  for p = 1, #r + 1, 5 do
    if p == place[j] then
      if s < own[j] then return me, own[j] - s - 1 end
      s = s - own[j]
    end
    if p < #r then
      local a, b, c, d, e = byte(r, p, p + 4)
      local id, count = a * 256 + b, c * 65536 + d * 256 + e
      if bit(live, id) then
        if s < count then return id, count - s - 1 end
        s = s - count
      end
    end
  end
end
local takers = 0
-- Tells the process of a seat of the user how many seats it may keep: with the newcomers that it has itself.
local function replaced(u, s, newcomers)
  local i, most = seat(u, s)
  if i == me then most = most + newcomers end
  if i then tell('t', (call('HGET', M, 'n' .. i) or '') .. ' ' .. most .. ' ' .. sub(ARGV[13], takers * 16 - 15, takers * 16),
    KEYS[tonumber(ARGV[14])]) end
end
for p = 1, #Q, 9 do
  local a, b, c, d, e, f, g, h, flags = byte(Q, p, p + 8)
  local i, x, u, w = a * 256 + b, c * 256 + d, e * 256 + f, g * 256 + h
  -- 1 a move, 2 a newcomer that may replace a seat, 4 a question, 12 a question that was asked in vain.
  local kind = floor(flags / 4)
  flags = flags % 4
  if kind == 2 or kind == 12 then takers = takers + 1 end
  local bound = flags % 2 == 0
  local code = 0
  local w1, w2 = 0, 0
  if W ~= '' then
    local r1, r2, r3, r4 = byte(W, q * 4 + 1, q * 4 + 4)
    w1 = r1 * 256 + r2; w2 = r3 * 256 + r4
  end
  local late = 0
  if kind >= 4 then
    local over = own[u] + others[u] - lU
    if over > 0 then code = 11 end
    -- An event was lost, or the limit was lowered. A process that has ended a seat already ends no other one for it.
    if kind == 12 then for s = 0, math.min(over, 8) - 1 do replaced(u, s, 0) end end
  elseif kind == 1 then
    if full(u, lU) then code = 5 end
  elseif drains then code = 1
  elseif T + mT >= lT then code = 2
  elseif bound and x > 0 and full(x, lP) then code = 3
  elseif bound and flags < 2 and full(i, lI) then code = 4
  elseif bound and flags >= 2 and full(i, lX) then code = 10
  -- Each that waits has replaced one: there are no more than the limit.
  elseif u > 0 and full(u, lU) and (kind ~= 2 or own[u] + others[u] >= 2 * lU) then code = 5
  elseif bound and w > 0 and full(w, lAI) then code = 7
  elseif w > 0 and A + mA >= lA then code = 6
  else
    late = spare(w1, qI, bI)
    if late > 0 then code = 8 else
      late = spare(w2, qU, bU)
      if late > 0 then code = 9 end
    end
  end
  if code >= 8 and code <= 9 then wait = wait .. u24(late) end
  if code == 0 and kind < 4 then
    if kind == 2 and full(u, lU) then
      -- Those that wait have replaced the seats before this one.
      replaced(u, own[u] + others[u] - lU, 1)
      code = 11
    end
    if w1 > 0 and qI > 0 then ahead[w1] = ahead[w1] + qI end
    if w2 > 0 and qU > 0 then ahead[w2] = ahead[w2] + qU end
    if kind ~= 1 then mT = mT + 1 end
    if w > 0 then mA = mA + 1 end
    take(i); take(x); take(u); take(w)
  end
  q = q + 1; out[q] = char(48 + code)
end
local h, l = floor(me / 256), me % 256
for j in pairs(dirty) do
  local o, v = own[j], rest[j]
  if o > 0 then
    v = sub(v, 1, place[j] - 1) .. char(h, l, floor(o / 65536), floor(o / 256) % 256, o % 256) .. sub(v, place[j])
  end
  if v == '' then call('HDEL', key[j], field[j]) else call('HSET', key[j], field[j], v) end
end
for j, a in pairs(ahead) do arrived(KEYS[j], now, a) end
if mT ~= T0 or mA ~= A0 then call('HSET', M, 'T', T + mT, 'A', A + mA, 'T' .. I, mT, 'A' .. I, mA) end
return done(table.concat(out) .. wait)
