-- A client's policy: a stranger without credentials.

return {
  challenge = function()
    return nil
  end,

  tests = [[
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
|
C fails EAUTH status=401 attempts=1 permanent
C close 1011 the server asks for credentials (Basic, realm "members"): no credentials
]],
}
