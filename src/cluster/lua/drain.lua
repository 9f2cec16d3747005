-- ARGV: 1 generation, 2 ms, or 0 to admit again, 3 reason, 4 id of the call. KEYS: m, e.
-- Returns number, ms and reason of the drain in force now, as a beat does; nothing for a late copy.
if call('HGET', M, 'g') ~= ARGV[1] then return 'GEN' end
if not once(ARGV[4]) then return {} end
tell('s', '')
local t = call('TIME')
local ms = t[1] * 1000 + floor(t[2] / 1000)
local number = num(call('HGET', M, 'dn')) + 1
call('HSET', M, 'dn', number, 'du', ARGV[2] == '0' and 0 or ms + tonumber(ARGV[2]), 'dr', ARGV[3], 'dt', ARGV[2])
return {tostring(number), ARGV[2], ARGV[3]}
