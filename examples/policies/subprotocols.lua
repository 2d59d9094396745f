-- A server's policy: of the subprotocols that a client offers, chooses the one that the server prefers, whatever the
-- client's order. Without a common one, it rejects the client.

local preferences = { "chat.v3", "chat.v2" }

return {
  extended = function(request)
    for _, preferred in ipairs(preferences) do
      for _, offered in ipairs(request.protocols) do
        if offered == preferred then
          return accept { protocol = preferred }
        end
      end
    end
    return reject(400, "This server speaks " .. table.concat(preferences, " and ") .. ".\n")
  end,

  tests = [[
# The server's order decides

```khp
C binary
| GET /chat HTTP/1.1
| Sec-WebSocket-Protocol: chat.v1, chat.v2, chat.v3
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
| Sec-WebSocket-Protocol: chat.v3
* Server, Date
|
S opens protocol=chat.v3
```

# Nothing in common

```khp
C binary
| GET /chat HTTP/1.1
| Sec-WebSocket-Protocol: chat.v1
|
S binary
| HTTP/1.1 400 Bad Request
* Server, Date and so on
|
+ This server speaks chat.v3 and chat.v2.\n
S close 1000
```
]],
}
