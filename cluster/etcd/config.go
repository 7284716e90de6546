package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/tapestry-net/tapestry/cluster"
)

// TLS is how the connection is protected: by files in PEM, or by a configuration. Empty with https endpoints: the system's
// authorities, and no certificate of this host.
type TLS struct {
	Cert, Key string      // files: this host's certificate and its key
	CA        string      // file: the authorities that may have signed etcd's certificate; "": the system's
	Config    *tls.Config // instead of files
}

func (t TLS) empty() bool { return t == TLS{} }

// load reads the files; nil if there is nothing to be read.
func (t TLS) load() (*tls.Config, error) {
	switch {
	case t.empty():
		return nil, nil
	case t.Config != nil && t != (TLS{Config: t.Config}):
		return nil, errors.New("etcd: a TLS configuration and files: want one of them")
	case t.Config != nil:
		return t.Config.Clone(), nil
	case (t.Cert == "") != (t.Key == ""):
		return nil, errors.New("etcd: a certificate needs its key, and a key its certificate")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("etcd: certificate %s with key %s: %w", t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("etcd: authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd: %s has no certificate in PEM", t.CA)
		}
	}
	return c, nil
}

func (c *Config) check() error {
	if err := cluster.CheckKey(c.Cluster); err != nil {
		return fmt.Errorf("etcd: the cluster's name is written like a network's key: %w", err)
	}
	for _, r := range c.Prefix {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("etcd: prefix %q: want printable ASCII without spaces", c.Prefix)
		}
	}
	if len(c.Prefix) > 255 || strings.Trim(c.Prefix, "/") == "" {
		return fmt.Errorf("etcd: prefix %q: want 1 to 255 characters, and not slashes only", c.Prefix)
	}
	if len(c.Endpoints) == 0 {
		return errors.New("etcd: no endpoint: want at least one, like https://192.0.2.5:2379")
	}
	_, first, _ := c.endpoint(c.Endpoints[0])
	for _, ep := range c.Endpoints {
		_, secure, err := c.endpoint(ep)
		if err == nil && secure != first {
			err = fmt.Errorf("etcd: endpoints %s: want all with https, or none", listed(c.Endpoints))
		}
		if err != nil {
			return err
		}
	}
	if (c.User == "") != (c.Password == "") {
		return errors.New("etcd: a user needs a password, and a password a user")
	}
	if c.Keep < 0 {
		return fmt.Errorf("etcd: a host that is gone keeps what it owns for %v: want a positive time", c.Keep)
	}
	return nil
}

// endpoint takes one apart: HOST:PORT, and whether it is spoken to by TLS.
func (c *Config) endpoint(ep string) (address string, secure bool, err error) {
	scheme, address, ok := strings.Cut(ep, "://")
	if !ok {
		scheme, address = "", ep
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	u, err2 := url.Parse("x://" + address)
	if err != nil || err2 != nil || host == "" || u.Host != address {
		return "", false, fmt.Errorf("etcd: endpoint %q: want HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
	}
	switch scheme {
	case "":
		return address, !c.TLS.empty(), nil
	case "https":
		return address, true, nil
	case "http":
		if !c.TLS.empty() {
			return "", false, fmt.Errorf("etcd: endpoint %s is without TLS, but certificates are given: want https://%s", ep, address)
		}
		return address, false, nil
	}
	return "", false, fmt.Errorf("etcd: endpoint %q: want HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
}

// listed joins words as a sentence does.
func listed(all []string) string {
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}
