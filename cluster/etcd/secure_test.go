package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// An authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	made int // certificates: etcd reads their files again and again
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	testhost.Must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	testhost.Must(t, err)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	testhost.Must(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// sign makes a certificate for a name, valid at an address of this machine or not.
func (a *authority) sign(name, address string, until time.Time) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testhost.Must(a.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: until,
		IPAddresses: []net.IP{net.ParseIP(address)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	testhost.Must(a.t, err)
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	testhost.Must(a.t, err)
	a.made++
	return a.write(fmt.Sprintf("%s%d.pem", name, a.made), "CERTIFICATE", der), a.write(fmt.Sprintf("%s%d-key.pem", name, a.made), "PRIVATE KEY", pkcs)
}

var far = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// secure starts an etcd with a certificate, which wants one of each client.
func secure(t *testing.T, ca *authority, address string, until time.Time) *server {
	cert, key := ca.sign("server", address, until)
	s := makeServer(t, "n1", "--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.file, "--client-cert-auth")
	s.scheme = "https"
	mine, mykey := ca.sign("admin", "127.0.0.1", far)
	admin, err := TLS{Cert: mine, Key: mykey, CA: ca.file}.load()
	testhost.Must(t, err)
	admin.InsecureSkipVerify = true // its certificate is wrong in some tests
	s.admin = admin
	s.start()
	s.wait()
	return s
}

// TestTLS: with the right certificates a host connects, and without it says which one is wrong.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "good"), newAuthority(t, "bad")
	cert, key := ca.sign("host", "127.0.0.1", far)
	strange, strangeKey := other.sign("strange", "127.0.0.1", far)
	good := secure(t, ca, "127.0.0.1", far)
	wrongName, expired := secure(t, ca, "192.0.2.1", far), secure(t, ca, "127.0.0.1", time.Unix(1e9, 0))
	for name, test := range map[string]struct {
		s     *server
		tls   TLS
		plain bool
		words string
	}{
		"files":                  {s: good, tls: TLS{Cert: cert, Key: key, CA: ca.file}},
		"another authority":      {s: good, tls: TLS{Cert: cert, Key: key, CA: other.file}, words: "not signed by an authority in " + other.file},
		"the system's":           {s: good, words: "not signed by a known authority"},
		"no certificate":         {s: good, tls: TLS{CA: ca.file}, words: "does not accept this host's certificate, or wants one"},
		"a strange certificate":  {s: good, tls: TLS{Cert: strange, Key: strangeKey, CA: ca.file}, words: "does not accept this host's certificate, or wants one"},
		"another name":           {s: wrongName, tls: TLS{Cert: cert, Key: key, CA: ca.file}, words: "valid for 192.0.2.1, not 127.0.0.1"},
		"an expired certificate": {s: expired, tls: TLS{Cert: cert, Key: key, CA: ca.file}, words: "expired"},
		"http":                   {s: good, plain: true, words: "does it want https?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, test.s, func(c *Config) {
				c.TLS = test.tls
				if test.plain {
					c.Endpoints[0] = strings.Replace(c.Endpoints[0], "https", "http", 1)
				}
			}).start(1)
			if test.words == "" {
				h.connected()
				if _, err := h.Network(t.Context(), blue); err != nil {
					t.Error(err)
				}
				return
			}
			h.away(h.proxy.addr, test.words)
			h.strongCalls(h.proxy.addr, test.words)
		})
	}
	t.Run("a configuration", func(t *testing.T) {
		conf, err := TLS{Cert: cert, Key: key, CA: ca.file}.load()
		testhost.Must(t, err)
		newHost(t, good, func(c *Config) { c.TLS = TLS{Config: conf} }).start(1).connected()
	})
	t.Run("TLS that is not there", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		h := newHost(t, s, func(c *Config) {
			c.Endpoints[0], c.TLS = strings.Replace(c.Endpoints[0], "http", "https", 1), TLS{CA: ca.file}
		}).start(1)
		h.away("http instead of https?")
	})
	t.Run("files that come later", func(t *testing.T) { // as a renewed certificate does
		t.Parallel()
		dir := t.TempDir()
		mine := TLS{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: ca.file}
		lay := func(cert, key string) {
			for from, to := range map[string]string{cert: mine.Cert, key: mine.Key} {
				b, err := os.ReadFile(from)
				testhost.Must(t, err)
				testhost.Must(t, os.WriteFile(to, b, 0o600))
			}
		}
		lay(strange, strangeKey)
		h := newHost(t, good, func(c *Config) { c.TLS = mine }).start(1)
		h.away("certificate")
		lay(cert, key)
		h.connected()
	})
}

// TestUser: user and password, and a role that may use one prefix only.
func TestUser(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--auth-token-ttl", "2")
	c, ctx := s.examine(), t.Context()
	must := func(_ any, err error) { t.Helper(); testhost.Must(t, err) }
	must(c.RoleAdd(ctx, "tapestry"))
	must(c.RoleGrantPermission(ctx, "tapestry", "/tapestry/test/", clientv3.GetPrefixRangeEnd("/tapestry/test/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(c.RoleAdd(ctx, "reader"))
	must(c.RoleGrantPermission(ctx, "reader", "/tapestry/test/", clientv3.GetPrefixRangeEnd("/tapestry/test/"), clientv3.PermissionType(clientv3.PermRead)))
	must(c.RoleAdd(ctx, "one")) // may write of the hosts' keys only its own
	must(c.RoleGrantPermission(ctx, "one", "/tapestry/test/", clientv3.GetPrefixRangeEnd("/tapestry/test/"), clientv3.PermissionType(clientv3.PermRead)))
	for _, own := range []string{"hosts/" + string(conformance.Self(4).ID) + "/", "networks/", "users/", "vnis/", "blocks/"} {
		own = "/tapestry/test/" + own
		must(c.RoleGrantPermission(ctx, "one", own, clientv3.GetPrefixRangeEnd(own), clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	for user, role := range map[string]string{"root": "root", "host": "tapestry", "reader": "reader", "one": "one"} {
		must(c.UserAdd(ctx, user, "secret"))
		must(c.UserGrantRole(ctx, user, role))
	}
	must(c.AuthEnable(ctx))
	as := func(user, password string) func(*Config) {
		return func(c *Config) { c.User, c.Password = user, password }
	}
	a, b := newHost(t, s, as("host", "secret")).start(1), newHost(t, s, as("host", "secret")).start(2)
	meet(t, a, b)
	for i := range 2 {
		if _, err := a.Network(ctx, blue); err != nil {
			t.Error(err)
		}
		if _, err := a.Claim(ctx, "blue", anyOf); err != nil {
			t.Error(err)
		}
		if i == 0 { // with a token that has expired, and on new connections
			expired := time.Now().Add(testTTL) // twice its life
			testhost.Until(t, "the token has expired", func() bool { return time.Now().After(expired) })
			a.proxy.refuse(true)
			a.away("refused")
			a.proxy.refuse(false)
			meet(t, a, b)
		}
	}
	one := newHost(t, s, as("one", "secret")).start(4)
	meet(t, a, one)
	if _, err := one.Network(ctx, blue); err != nil {
		t.Error(err)
	}
	if got, err := one.Claim(ctx, "blue", anyOf); err != nil {
		t.Error(err)
	} else if err := one.Free(ctx, "blue", got); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		words  string
	}{
		"wrong password":       {as("host", "wrong"), `user name "host" or its password is wrong`},
		"no such user":         {as("nobody", "secret"), `user name "nobody" or its password is wrong`},
		"no user":              {func(*Config) {}, "wants a user name and a password"},
		"another prefix":       {func(c *Config) { as("host", "secret")(c); c.Prefix = "/other" }, `user "host" may not read and write all keys below /other/test/`},
		"may not write":        {as("reader", "secret"), `user "reader" may not read and write all keys below /tapestry/test/`},
		"another cluster here": {func(c *Config) { as("host", "secret")(c); c.Cluster = "test2" }, "may not read and write all keys below /tapestry/test2/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, s, test.change).start(3)
			h.away(h.proxy.addr, test.words)
			h.strongCalls(h.proxy.addr, test.words)
		})
	}
}

// TestConfig: what cannot be right is refused with a sentence.
func TestConfig(t *testing.T) {
	ca := newAuthority(t, "good")
	cert, key := ca.sign("host", "127.0.0.1", far)
	for name, test := range map[string]struct {
		change func(*Config)
		words  string // "": it is right
	}{
		"right":           {func(*Config) {}, ""},
		"HOST:PORT":       {func(c *Config) { c.Endpoints[0] = "[::1]:2379" }, ""},
		"cluster":         {func(c *Config) { c.Cluster = "a/b" }, `"a/b"`},
		"prefix":          {func(c *Config) { c.Prefix = "/a b" }, `prefix "/a b"`},
		"slash":           {func(c *Config) { c.Prefix = "//" }, "not slashes only"},
		"no endpoint":     {func(c *Config) { c.Endpoints = nil }, "no endpoint"},
		"no port":         {func(c *Config) { c.Endpoints[0] = "http://192.0.2.1" }, `endpoint "http://192.0.2.1"`},
		"path":            {func(c *Config) { c.Endpoints[0] = "http://192.0.2.1:2379/x" }, `want HOST:PORT`},
		"scheme":          {func(c *Config) { c.Endpoints[0] = "ftp://192.0.2.1:2379" }, `want HOST:PORT`},
		"mixed":           {func(c *Config) { c.Endpoints = append(c.Endpoints, "https://192.0.2.1:2379") }, "all with https, or none"},
		"http with a key": {func(c *Config) { c.TLS = TLS{Cert: cert, Key: key} }, "without TLS"},
		"password only":   {func(c *Config) { c.Password = "x" }, "a password a user"},
		"user only":       {func(c *Config) { c.User = "x" }, "needs a password"},
		"negative time":   {func(c *Config) { c.Keep = -1 }, "positive"},
		"no key":          {func(c *Config) { c.TLS, c.Endpoints[0] = TLS{Cert: cert}, "192.0.2.1:2379" }, "needs its key"},
		"no file":         {func(c *Config) { c.TLS, c.Endpoints[0] = TLS{CA: "/nowhere"}, "192.0.2.1:2379" }, "/nowhere"},
		"not PEM":         {func(c *Config) { c.TLS, c.Endpoints[0] = TLS{CA: "/dev/null"}, "192.0.2.1:2379" }, "no certificate"},
		"key is of other": {func(c *Config) { c.TLS, c.Endpoints[0] = TLS{Cert: ca.file, Key: key}, "192.0.2.1:2379" }, "ca.pem"},
		"both": {func(c *Config) {
			c.TLS, c.Endpoints[0] = TLS{CA: ca.file, Config: new(tls.Config)}, "192.0.2.1:2379"
		}, "one of them"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Cluster: "test", Endpoints: []string{"http://192.0.2.1:2379"}}
			test.change(&c)
			e, err := New(c)
			if err == nil {
				err = e.Start(conformance.Self(1), func(cluster.Update) {})
				e.Close(t.Context())
			}
			if (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) || errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%v, want %q in it", err, test.words)
			}
		})
	}
}
