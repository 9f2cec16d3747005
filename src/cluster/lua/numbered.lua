-- ARGV 4: number of the call. A call that has run returns its results again; a late copy changes nothing.
local seq, last = tonumber(ARGV[4]), tonumber(call('HGET', M, 's' .. I) or -1)
if last == seq then return call('HGET', M, 'r' .. I) end
if last ~= seq - 1 then return 'LOST' end -- rule: lost
-- A server without memory refuses here, before anything has changed.
call('HSET', M, 'w', 1)
local function done(results)
  local r = '+' .. results
  call('HSET', M, 's' .. I, seq, 'r' .. I, r)
  return r
end
