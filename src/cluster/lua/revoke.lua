-- ARGV: 1 most, 2 data of the event, empty for none, 3 the caller's time in ms; then expiry in ms and text of each
-- revocation. KEYS: m, e, v. Expiries are times of the callers' clocks: one that only the server's clock has passed stays.
local t = call('TIME')
local past = math.min(t[1] * 1000, tonumber(ARGV[3]))
call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.format('%.0f', past))
local fresh = 0
for a = 4, #ARGV, 2 do if not call('ZSCORE', KEYS[3], ARGV[a + 1]) then fresh = fresh + 1 end end
if call('ZCARD', KEYS[3]) + fresh > tonumber(ARGV[1]) then return 'FULL' end
if ARGV[2] ~= '' then tell('v', ARGV[2]) end
for a = 4, #ARGV, 2 do call('ZADD', KEYS[3], 'GT', ARGV[a], ARGV[a + 1]) end
return {}
