package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/network"
)

const (
	maxBody     = 1 << 20
	maxLogged   = 8 << 10          // bytes of a body; the log may escape one byte as six
	deadline    = 10 * time.Second // dockerd itself has no time limit, and holds the container's lock
	contentType = "application/vnd.docker.plugins.v1.2+json"
)

// method answers one call of the protocol. body is the whole request.
type method func(ctx context.Context, body []byte) (reply any, err error)

// httpError is an error of the request, not of the driver, with its HTTP status.
type httpError struct {
	status int
	error
}

func httpErrorf(status int, format string, args ...any) error {
	return &httpError{status, fmt.Errorf(format, args...)}
}

// handler serves the protocol. dockerd's requests have no Content-Type, and a Host field without meaning.
type handler struct {
	methods  map[string]method // by path
	deadline time.Duration     // of one request
	log      *slog.Logger
	calls    *Calls
}

// Handler serves both drivers to dockerd, on one socket. Every reply is a JSON object; an error is {"Err": text}, of the IPAM driver
// with the same text as "Error" too, which is where dockerd looks for it. Its status is 200 if it is the driver's
// (dockerd shows it as "remote: text"), else 400 for a body that cannot be parsed, 404, 405, 413 for more than 1 MiB, or 500 for
// a panic. A request that takes longer than 10 s is answered with an error, and its context ends. A nil log is silent. Calls counts all.
func Handler(d *Driver, i *IPAM, log *slog.Logger) (http.Handler, *Calls) {
	h := newHandler(d, i, log, deadline)
	return h, h.calls
}

func newHandler(d *Driver, i *IPAM, log *slog.Logger, deadline time.Duration) *handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	nothing := constant(struct{}{})
	h := &handler{
		deadline: deadline,
		log:      log,
		methods: map[string]method{
			"/Plugin.Activate":                           constant(map[string]any{"Implements": []string{"NetworkDriver", "IpamDriver"}}),
			"/NetworkDriver.GetCapabilities":             d.GetCapabilities,
			"/NetworkDriver.GwAllocCheck":                withReply(d.GwAllocCheck),
			"/NetworkDriver.AllocateNetwork":             withReply(d.AllocateNetwork),
			"/NetworkDriver.FreeNetwork":                 withoutReply(d.FreeNetwork),
			"/NetworkDriver.CreateNetwork":               withoutReply(d.CreateNetwork),
			"/NetworkDriver.DeleteNetwork":               withoutReply(d.DeleteNetwork),
			"/NetworkDriver.CreateEndpoint":              withReply(d.CreateEndpoint),
			"/NetworkDriver.EndpointOperInfo":            constant(map[string]any{"Value": struct{}{}}), // an error here stops containers of 20.10
			"/NetworkDriver.DeleteEndpoint":              withoutReply(d.DeleteEndpoint),
			"/NetworkDriver.Join":                        withReply(d.Join),
			"/NetworkDriver.Leave":                       withoutReply(d.Leave),
			"/NetworkDriver.DiscoverNew":                 withoutReply(d.DiscoverNew),
			"/NetworkDriver.DiscoverDelete":              withoutReply(d.DiscoverDelete),
			"/NetworkDriver.ProgramExternalConnectivity": nothing,
			"/NetworkDriver.RevokeExternalConnectivity":  nothing,
		},
	}
	maps.Copy(h.methods, i.methods())
	h.calls = newCalls(h.methods)
	return h
}

// ipamError is an error of the IPAM driver: dockerd looks for Error in replies of status 200, for Err in others.
type ipamError struct{ Error, Err string }

// constant is a method that ignores its request and always returns the same reply.
func constant(reply any) method {
	return func(context.Context, []byte) (any, error) { return reply, nil }
}

// withReply is a method that calls the driver and returns its reply.
func withReply[Req, Rep any](call func(context.Context, *Req) (*Rep, error)) method {
	return func(ctx context.Context, body []byte) (any, error) {
		req := new(Req)
		if err := decode(body, req); err != nil {
			return nil, err
		}
		return call(ctx, req)
	}
}

// withoutReply is a method that calls the driver and has an empty reply.
func withoutReply[Req any](call func(context.Context, *Req) error) method {
	return withReply(func(ctx context.Context, req *Req) (*struct{}, error) {
		return &struct{}{}, call(ctx, req)
	})
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	name := strings.TrimPrefix(r.URL.Path, "/")
	body, err := read(r)
	log := h.log.With("method", name).With(requestIDs(body)...)
	log.Debug("request", "body", shorten(body))
	var reply any
	if err == nil {
		if m, ok := h.methods[r.URL.Path]; ok {
			reply, err = h.call(r.Context(), log, name, m, body)
		} else {
			err = httpErrorf(http.StatusNotFound, "%s: no such method of a network driver or an IPAM driver", show(name))
		}
	}

	status := http.StatusOK
	if err != nil {
		reply = network.ErrorResponse{Err: err.Error()}
		if strings.HasPrefix(name, "IpamDriver.") {
			reply = ipamError{err.Error(), err.Error()}
		}
		var f *httpError
		if errors.As(err, &f) {
			status = f.status
		}
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	// An error here is the connection's: dockerd is gone.
	_ = json.NewEncoder(w).Encode(reply)

	took := time.Since(began)
	h.calls.count(name, took, err != nil)
	if err != nil {
		log.Info("request refused", "err", err, "status", status, "took", took)
	} else {
		log.Debug("request done", "took", took)
	}
}

// shorten cuts a body for the log. dockerd 20.10 stops reading a managed plugin's log after a line of more than 64 KiB.
func shorten(body []byte) string {
	if len(body) <= maxLogged {
		return string(body)
	}
	return fmt.Sprintf("%s… (of %d bytes)", strings.ToValidUTF8(string(body[:maxLogged]), "\uFFFD"), len(body))
}

// call runs m, but waits no longer than the deadline: a method that takes longer ends later, by its context.
func (h *handler) call(ctx context.Context, log *slog.Logger, name string, m method, body []byte) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, h.deadline)
	defer cancel()

	type result struct {
		reply any
		err   error
	}
	done := make(chan result, 1)
	go func() {
		reply, err := recoverPanic(ctx, log, m, body)
		level := slog.LevelWarn
		if errors.Is(ctx.Err(), context.Canceled) {
			level = slog.LevelInfo // dockerd has ended
		}
		if ctx.Err() != nil {
			log.Log(context.WithoutCancel(ctx), level, "request ended when nobody waited for it any more", "err", err)
		}
		done <- result{reply, err}
	}()

	var res result
	select {
	case res = <-done:
	case <-ctx.Done():
		select {
		case res = <-done: // both at the same time: the method has ended
		default:
			res.err = ctx.Err()
		}
	}
	if res.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s took longer than %v and was given up, try again; if that does not help, tapestry's log tells what it waits for: %w", name, h.deadline, res.err)
	}
	return res.reply, res.err
}

// recoverPanic calls m and makes an error of a panic: else net/http would close the connection, and dockerd would repeat the
// request with an empty body.
func recoverPanic(ctx context.Context, log *slog.Logger, m method, body []byte) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic", "err", p, "stack", string(debug.Stack()))
			reply, err = nil, httpErrorf(http.StatusInternalServerError, "tapestry has a bug: %v; its log has the details, please report them", p)
		}
	}()
	return m(ctx, body)
}

// read reads the whole body. If it is too long, it is read on and discarded, so that a client that writes everything before it
// reads gets the answer.
func read(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case r.Method != http.MethodPost:
		return nil, httpErrorf(http.StatusMethodNotAllowed, "%s %s: want POST", show(r.Method), show(r.URL.Path))
	case err != nil:
		return nil, httpErrorf(http.StatusBadRequest, "read the request body: %w", err)
	case len(body) > maxBody:
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 16*maxBody))
		return nil, httpErrorf(http.StatusRequestEntityTooLarge, "the request body is longer than %d bytes; nothing was done", maxBody)
	}
	return body, nil
}

// decode parses a body, which must be one JSON object. Unknown fields are ignored: newer daemons send more.
func decode(body []byte, req any) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return httpErrorf(http.StatusBadRequest, "empty request body: the daemon retried after a lost connection; nothing was done, try the command again")
	}
	if body[0] != '{' {
		return httpErrorf(http.StatusBadRequest, "the request body is no JSON object; nothing was done")
	}
	err := json.Unmarshal(body, req)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return httpErrorf(http.StatusBadRequest, "%s: want %s, got JSON %s; nothing was done", wrong.Field, jsonType(wrong.Type), wrong.Value)
	}
	return httpErrorf(http.StatusBadRequest, "the request body is no JSON: %w; nothing was done", err)
}

// jsonType is the name of the JSON type for a field of type t.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Int:
		return "a number"
	}
	return "an object"
}

// requestIDs returns the ids in a body as attributes for the log. A body without ids is no error.
func requestIDs(body []byte) []any {
	var ids struct{ NetworkID, EndpointID string }
	_ = json.Unmarshal(body, &ids) // the method itself says what is wrong
	var attrs []any
	if ids.NetworkID != "" {
		attrs = append(attrs, "network", show(ids.NetworkID))
	}
	if ids.EndpointID != "" {
		attrs = append(attrs, "endpoint", show(ids.EndpointID))
	}
	return attrs
}
