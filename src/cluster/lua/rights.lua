-- KEYS: m. Tries each command of the scripts that no join runs anyway, on a key that does not exist: nothing changes.
-- Returns name and error of each that fails. The key is not named, or a slot on its way to another server would refuse.
local none = KEYS[1] .. '-none'
local out = {}
local function try(name, ...)
  local r = redis.pcall(name, ...)
  if type(r) == 'table' and r.err then out[#out + 1] = name; out[#out + 1] = r.err end
end
try('TIME')
try('GET', none)
try('SET', none, '', 'XX')
try('DEL', none)
try('UNLINK', none)
try('HGET', none, 'f')
try('HMGET', none, 'f')
try('HGETALL', none)
try('HDEL', none, 'f')
try('XADD', none, 'NOMKSTREAM', '*', 'f', '')
try('XREAD', 'COUNT', '1', 'STREAMS', none, '0')
try('XRANGE', none, '-', '+', 'COUNT', '1')
try('XREVRANGE', none, '+', '-', 'COUNT', '1')
try('ZADD', none, 'XX', '0', 'f')
try('ZCARD', none)
try('ZSCORE', none, 'f')
try('ZSCAN', none, '0')
try('ZREMRANGEBYSCORE', none, '0', '0')
return out
