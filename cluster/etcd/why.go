package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tapestry-net/tapestry/cluster"
)

// What an error of a strong call is.
type sort uint8

const (
	answer  sort = iota // none, or the cluster's word
	passing             // etcd cannot answer now
	refusal             // etcd does not answer this host, now or later
)

// kind sorts an error.
func kind(err error) sort {
	var of rpctypes.EtcdError
	code := codes.OK
	if errors.As(err, &of) {
		code = of.Code()
	} else if s, ok := status.FromError(err); ok {
		code = s.Code()
	}
	switch {
	case err == nil:
		return answer
	case errors.Is(err, errFence), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return passing
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled, code == codes.Internal, code == codes.Unknown,
		errors.Is(err, rpctypes.ErrTooManyRequests), errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision):
		return passing
	case code != codes.OK:
		return refusal
	}
	return answer
}

// words says what an error of etcd means for who reads it.
func (e *Engine) words(err error) string {
	var of rpctypes.EtcdError
	errors.As(err, &of)
	is := func(all ...error) bool {
		for _, one := range all {
			if errors.Is(err, one) {
				return true
			}
		}
		return false
	}
	switch {
	case is(rpctypes.ErrAuthFailed):
		return fmt.Sprintf("user name %q or its password is wrong", e.config.User)
	case is(rpctypes.ErrUserEmpty):
		return "it wants a user name and a password, or a certificate with a user's name"
	case is(rpctypes.ErrPermissionDenied):
		return fmt.Sprintf("user %q may not read and write all keys below %s", e.config.User, e.at.base)
	case is(rpctypes.ErrNoLeader, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
		rpctypes.ErrTimeoutWaitAppliedIndex, rpctypes.ErrUnhealthy, rpctypes.ErrLeaderChanged):
		return "it has no leader: most of its members must run and reach each other"
	case is(rpctypes.ErrStopped):
		return "it is being stopped"
	case is(rpctypes.ErrNoSpace):
		return "its database is full: compact and defragment it, then end the alarm (etcdctl), or raise its --quota-backend-bytes"
	case is(rpctypes.ErrRequestTooLarge):
		return "it takes no request as large as this host's record: raise its --max-request-bytes"
	case is(rpctypes.ErrCompacted):
		return "it has compacted what this host had not seen yet; all is read again"
	case is(errFence):
		return "it does not know yet that this host lives"
	case is(errSilent, errNotYet, context.DeadlineExceeded):
		return "it does not answer"
	}
	if s, ok := status.FromError(err); ok && s.Code() == codes.DeadlineExceeded {
		return "it does not answer"
	}
	text := err.Error()
	if _, desc, ok := strings.Cut(text, "desc = "); ok {
		text = desc
	}
	return strings.TrimPrefix(text, "etcdserver: ")
}

// probeLimit is how long one endpoint is examined.
const probeLimit = time.Second

// explain makes an error for people: which endpoint, and what is wrong there. It wraps cluster.ErrUnavailable.
func (e *Engine) explain(ctx context.Context, err error) error {
	var of rpctypes.EtcdError
	if errors.As(err, &of) && of.Code() != codes.Unavailable || errors.Is(err, errFence) {
		return fmt.Errorf("%w: %s: %s", cluster.ErrUnavailable, e.endpoints(), e.words(err))
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	found := make([]string, len(e.config.Endpoints))
	var wg sync.WaitGroup
	for i, ep := range e.config.Endpoints {
		if ctx.Err() != nil { // no time for it
			break
		}
		wg.Go(func() {
			if err := e.probe(ctx, ep); err != nil {
				found[i] = fmt.Sprintf("etcd at %s: %s", ep, e.plain(err))
			}
		})
	}
	wg.Wait()
	var all []string
	for _, one := range found {
		if one != "" && len(all) < 5 {
			all = append(all, one)
		}
	}
	if len(all) == 0 || len(all) < len(found) {
		all = append([]string{fmt.Sprintf("%s: %s", e.endpoints(), e.words(err))}, all...)
	}
	return fmt.Errorf("%w: %s", cluster.ErrUnavailable, strings.Join(all, "; "))
}

// What a probe finds besides the errors of package net and of crypto.
var (
	errTalk  = errors.New("what answers there is not etcd, or not by this protocol (http, https)")
	errMute  = errors.New("it takes connections, but does not answer")
	errHangs = errors.New("it closes the connection at once (does it want https?)")
	errPlain = errors.New("it ends the TLS handshake at once (http instead of https?)")
	errCert  = errors.New("it does not accept this host's certificate, or wants one")
)

// probe connects to an endpoint, and awaits the first bytes that each HTTP/2 server sends (RFC 9113 section 3.4).
func (e *Engine) probe(ctx context.Context, ep string) error {
	address, secure, err := e.config.endpoint(ep)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if secure {
		conf, err := e.config.TLS.load()
		if err != nil {
			return err
		}
		if conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		conf.NextProtos = []string{"h2"}
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(address)
		}
		s := tls.Client(c, conf)
		if err := s.HandshakeContext(ctx); err != nil {
			if err = mute(err); errors.Is(err, errHangs) {
				err = errPlain
			}
			return err
		}
		c = s
	}
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	if _, err := c.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), settings...)); err != nil {
		return mute(err)
	}
	got := make([]byte, len(settings))
	if _, err := io.ReadFull(c, got); err != nil {
		return mute(err)
	}
	if got[3] != 4 {
		return errTalk
	}
	return nil
}

// mute tells what it means that a connection ends or says nothing.
func mute(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("%w (%w)", errCert, err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errMute
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return errHangs
	}
	return err
}

// plain says what a probe has found.
func (e *Engine) plain(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &authority):
		if e.config.TLS.CA != "" {
			return "its certificate is not signed by an authority in " + e.config.TLS.CA
		}
		return "its certificate is not signed by a known authority: name the file with its authority"
	case errors.As(err, &name):
		return "its certificate is wrong: " + strings.TrimPrefix(name.Error(), "x509: ")
	case errors.As(err, &invalid):
		return "its certificate is wrong: " + strings.TrimPrefix(invalid.Error(), "x509: ")
	case errors.As(err, &record):
		return "it does not speak TLS: http instead of https?"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: etcd does not run there"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "no connection: nothing answers there"
	}
	return err.Error()
}
