-- A server's policy: a client asks for a role with an extension, "x-role; name=editor". It gets that role, or the
-- user's own role if that is lower; the response names it. Without the extension, the client is a reader.

local ranks = { reader = 1, editor = 2, admin = 3 }
local users = { joe = "open sesame", ann = "swordfish" }
local roles = { joe = "editor", ann = "admin" }

-- The role that this request asks for, if any.
local function wanted(request)
  for _, extension in ipairs(request.extensions) do
    if extension.name == "x-role" then
      return extension.parameters.name
    end
  end
end

return {
  extended = function(request, session)
    local user = session:basic(request, users)
    if not user then
      return challenge 'Basic realm="newsroom"'
    end
    local asked, role = wanted(request), roles[user]
    if asked and not ranks[asked] then
      return reject(403, "There is no such role.\n")
    elseif ranks[asked or "reader"] < ranks[role] then
      role = asked or "reader"
    end
    session.data.user, session.data.role = user, role
    return accept { extensions = asked and { "x-role; name=" .. role } }
  end,

  tests = [[
# Up to the user's own role

```khp
C binary
| GET /news HTTP/1.1
| Authorization: Basic am9lOm9wZW4gc2VzYW1l
| Sec-WebSocket-Extensions: x-role; name=admin
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
| Sec-WebSocket-Extensions: x-role; name=editor
* Server, Date
|
S opens extensions=x-role; name=editor
```

# Not more than the client asked for

```khp
C binary
| GET /news HTTP/1.1
| Authorization: Basic YW5uOnN3b3JkZmlzaA==
| Sec-WebSocket-Extensions: x-role; name=editor
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens extensions=x-role; name=editor
```

# Without the extension there is none in the response

```khp
C binary
| GET /news HTTP/1.1
| Authorization: Basic YW5uOnN3b3JkZmlzaA==
|
S binary
| HTTP/1.1 101 Switching Protocols
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
| Server: khp
| Date: Sun, 22 Nov 2026 12:00:00 GMT
|
S opens
```

# A role that does not exist

```khp
C binary
| GET /news HTTP/1.1
| Authorization: Basic YW5uOnN3b3JkZmlzaA==
| Sec-WebSocket-Extensions: x-role; name=king
|
S binary
| HTTP/1.1 403 Forbidden
* Server, Date and so on
|
+ There is no such role.\n
S close 1000
```
]],
}
