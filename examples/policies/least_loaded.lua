-- A server's policy: redirects each client to the server with the fewest connections. Each server returns its number of
-- connections at /load. A number is used for five seconds; clients that are redirected in the meantime are added to it.

local servers = { "east.example.com", "west.example.com" }
local GOOD_FOR = 5

local loads, asked = {}, nil

local function ask(session)
  for _, server in ipairs(servers) do
    local answer = session:fetch("https://" .. server .. "/load", { timeout = 2 })
    loads[server] = answer and answer.status == 200 and tonumber(answer.body) or nil -- nil: it is down
  end
  asked = session.now
end

return {
  extended = function(request, session)
    if not asked or session.now >= asked + GOOD_FOR then
      ask(session)
    end
    local best
    for _, server in ipairs(servers) do
      if loads[server] and (not best or loads[server] < loads[best]) then
        best = server
      end
    end
    if not best then
      return reject(503, { headers = { ["Retry-After"] = "5" } })
    end
    loads[best] = loads[best] + 1
    return redirect("wss://" .. best .. request.target)
  end,

  tests = [[
# The fewest connections

```khp
C binary
| GET /game?table=4 HTTP/1.1
|
S asks https://east.example.com/load
| HTTP/1.1 200 OK
| Content-Length: 1
|
+ 8
S asks https://west.example.com/load
| HTTP/1.1 200 OK
| Content-Length: 1
|
+ 7
S binary
| HTTP/1.1 302 Found
| Location: wss://west.example.com/game?table=4
* Server, Date and so on
S close 1000
```

The next two come before anybody is asked again: now it is 8 and 8, then 9 and 8.

```khp
C binary
| GET /game HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: wss://east.example.com/game
* Server, Date and so on
S close 1000
```

```khp
C binary
| GET /game HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: wss://west.example.com/game
* Server, Date and so on
S close 1000
```

# One of them is down, then both are

```khp
C binary
| GET /game HTTP/1.1
|
S asks https://east.example.com/load
S asks https://west.example.com/load
| HTTP/1.1 200 OK
| Content-Length: 3
|
+ 500
S binary
| HTTP/1.1 302 Found
| Location: wss://west.example.com/game
* Server, Date and so on
S close 1000
```

```khp
wait 5
C binary
| GET /game HTTP/1.1
|
S asks https://east.example.com/load
S asks https://west.example.com/load
S binary
| HTTP/1.1 503 Service Unavailable
| Retry-After: 5
* Server, Date and so on
S close 1000
```
]],
}
