-- ARGV: 1 generation, 2 ms, or 0 to admit again, 3 reason, 4 id of the call. KEYS: m, e.
if call('HGET', M, 'g') ~= ARGV[1] then return 'GEN' end
if not once(ARGV[4]) then return {} end
tell('s', '')
local t = call('TIME')
local ms = t[1] * 1000 + floor(t[2] / 1000)
call('HSET', M, 'dn', num(call('HGET', M, 'dn')) + 1, 'du', ARGV[2] == '0' and 0 or ms + tonumber(ARGV[2]), 'dr', ARGV[3], 'dt', ARGV[2])
return {}
