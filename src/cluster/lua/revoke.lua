-- ARGV: 1 most, 2 data of the event, empty for none; then expiry in ms and text of each revocation. KEYS: m, e, v.
local t = call('TIME')
call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.format('%.0f', t[1] * 1000))
local fresh = 0
for a = 3, #ARGV, 2 do if not call('ZSCORE', KEYS[3], ARGV[a + 1]) then fresh = fresh + 1 end end
if call('ZCARD', KEYS[3]) + fresh > tonumber(ARGV[1]) then return 'FULL' end
if ARGV[2] ~= '' then tell('v', ARGV[2]) end
for a = 3, #ARGV, 2 do call('ZADD', KEYS[3], 'GT', ARGV[a], ARGV[a + 1]) end
return {}
