-- A server's policy: each address may open three connections at once, and one more every ten seconds. It has a token
-- bucket that refills over time; a connection takes one token. The buckets belong to this policy: after a reload
-- they are full.

local CAPACITY, PER_SECOND = 3, 0.1
local MOST = 10000 -- addresses

local buckets, count = {}, 0

local function level(bucket, now)
  return math.min(CAPACITY, bucket.tokens + (now - bucket.at) * PER_SECOND)
end

-- A bucket that is full again is not needed.
local function forget(now)
  for address, bucket in pairs(buckets) do
    if level(bucket, now) >= CAPACITY then
      buckets[address], count = nil, count - 1
    end
  end
end

local function bucket_of(address, now)
  local bucket = buckets[address]
  if not bucket then
    if count >= MOST then
      forget(now)
    end
    bucket = { tokens = CAPACITY, at = now }
    buckets[address], count = bucket, count + 1
  end
  return bucket
end

return {
  opening = function(_, session)
    local now = session.now
    local bucket = bucket_of(session.peer.host, now)
    bucket.tokens, bucket.at = level(bucket, now), now
    if bucket.tokens < 1 then
      local seconds = math.ceil((1 - bucket.tokens) / PER_SECOND)
      return reject(429, { headers = { ["Retry-After"] = ("%d"):format(seconds) } })
    end
    bucket.tokens = bucket.tokens - 1
  end,

  tests = [[
```khp opening
C http
| GET /echo HTTP/1.1
| Host: example.com
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
| Sec-WebSocket-Version: 13
| Sec-WebSocket-Protocol: x-kaazing-handshake
|
```

# Three at once, not four; another address has its own bucket

```khp
given peer=10.0.0.1
S http
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
```

```khp
S http
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
```

```khp
S http
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
```

```khp
S http
| HTTP/1.1 429 Too Many Requests
| Retry-After: 10
* Connection and so on
```

```khp
given peer=10.0.0.2
S http
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
```

```khp
given peer=10.0.0.1
wait 9
S http
| HTTP/1.1 429 Too Many Requests
| Retry-After: 1
* Connection and so on
```

```khp
wait 1
S http
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
```
]],
}
