-- A client's policy: gets user and password from the environment, not a file. A second 401 means that they are wrong.

return {
  challenge = function(_, attempt, session)
    if attempt == 1 and session.env.KHP_PASSWORD then
      return { username = session.env.KHP_USER or "joe", password = session.env.KHP_PASSWORD }
    end
  end,

  tests = [[
# With a password in the environment

```khp
given env.KHP_USER=ann, env.KHP_PASSWORD=swordfish
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
|
C binary
| GET /echo HTTP/1.1
| Authorization: Basic YW5uOnN3b3JkZmlzaA==
|
S binary
| HTTP/1.1 101 Switching Protocols
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
|
C opens
```

# Without one

```khp
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
|
C fails EAUTH status=401 permanent
C close 1011 the server asks for credentials (Basic, realm "members"): no credentials
```
]],
}
