package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
)

// What tests ask of dockerd all the time, and what they do in containers, goes without Docker's own client, and without docker exec: each
// call of these starts programs that take more of the processor than most of what is tested. What users type stays as they type it.

// client speaks HTTP to a Unix socket of the host.
func (h *Host) client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join("/proc", strconv.Itoa(h.pid), "root", socket))
		},
	}}
}

// engine sends a request of Docker's Engine API, and decodes the reply into v unless that is nil.
func (h *Host) engine(method, path string, v any) error { return h.engineWith(method, path, nil, v) }

// engineWith is engine for a request with a body.
func (h *Host) engineWith(method, path string, body, v any) error {
	said, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		said = nil
	}
	r, err := http.NewRequest(method, "http://docker"+path, bytes.NewReader(said))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := h.client("/run/docker.sock").Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 && answer.StatusCode != http.StatusNotModified { // that it is stopped already
		err = fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(text))
	}
	if err == nil && v != nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w", h.name, method, path, err)
	}
	return err
}

// An inspected container is what docker inspect tells of it: a part.
type inspected struct {
	ID    string `json:"Id"`
	Name  string // with a slash before it
	State struct {
		Status  string
		Running bool
		Pid     int // on the host; 0 if it does not run
	}
	NetworkSettings struct {
		Networks map[string]struct{ EndpointID, IPAddress, MacAddress string }
	}
}

// lookAt inspects a container by its name or the first 12 digits of its id. Where no container has the name c1, dockerd takes one whose id begins so.
func (h *Host) lookAt(container string) (c inspected, err error) {
	err = h.engine("GET", "/containers/"+container+"/json", &c)
	if err == nil && c.Name != "/"+container && len(container) < 12 {
		err = fmt.Errorf("%s: no container has the name %s: it is the beginning of the id of %s", h.name, container, c.Name)
	}
	return c, err
}

func (h *Host) inspect(t *testing.T, container string) inspected {
	t.Helper()
	c, err := h.lookAt(container)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running are the ids, of 12 digits, of containers that run and have a label.
func (h *Host) running(label string) (ids []string, err error) {
	var all []struct {
		ID string `json:"Id"`
	}
	err = h.engine("GET", "/containers/json?"+filter("label", label), &all)
	for _, c := range all {
		ids = append(ids, c.ID[:12])
	}
	return ids, err
}

// start creates and starts a container of tp/net, as docker run -d does. The addresses, "" for any, are those on its network.
func (h *Host) start(name, network, ip, ip6 string) error {
	type m map[string]any
	body := m{"Image": "tp/net", "HostConfig": m{"NetworkMode": network}}
	if ip != "" || ip6 != "" {
		body["NetworkingConfig"] = m{"EndpointsConfig": m{network: m{"IPAMConfig": m{"IPv4Address": ip, "IPv6Address": ip6}}}}
	}
	if err := h.engineWith("POST", "/containers/create?name="+name, body, nil); err != nil {
		return err
	}
	return h.engine("POST", "/containers/"+name+"/start", nil)
}

// filter is the part of a request's URL that asks for what has this value only.
func filter(key, value string) string {
	return "filters=" + url.QueryEscape(fmt.Sprintf(`{%q:[%q]}`, key, value))
}

// remove removes a container as docker rm -f does.
func (h *Host) remove(container string) error {
	c, err := h.lookAt(container)
	if err != nil {
		return err
	}
	return h.engine("DELETE", "/containers/"+c.ID+"?force=1", nil)
}

// tryExec runs a command in a container's namespaces and returns its standard output; the error has its standard error.
func (h *Host) tryExec(container string, args ...string) (string, error) {
	c, err := h.lookAt(container)
	if err != nil {
		return "", err
	}
	if c.State.Pid == 0 {
		return "", fmt.Errorf("%s: container %s is %s", h.name, container, c.State.Status)
	}
	return h.try(append([]string{"nsenter", "--target", strconv.Itoa(c.State.Pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--"}, args...)...)
}

// exec is tryExec for a command that must succeed.
func (h *Host) exec(t *testing.T, container string, args ...string) string {
	t.Helper()
	out, err := h.tryExec(container, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stop stops containers, and waits until Docker has removed their endpoints.
func (h *Host) stop(t *testing.T, containers ...string) {
	t.Helper()
	for _, c := range containers {
		if err := h.engine("POST", "/containers/"+c+"/stop?t=0", nil); err != nil {
			t.Fatal(err)
		}
	}
	h.released(t, containers...)
}

// released waits until Docker has removed the endpoints of containers that have ended. Docker 20.10 says that a container has ended
// before it does that, but holds the container's lock meanwhile, for which who inspects it waits.
func (h *Host) released(t *testing.T, containers ...string) {
	t.Helper()
	for _, c := range containers {
		h.inspect(t, c)
	}
}

// address is a container's IPv4 address on a network.
func (h *Host) address(t *testing.T, container, network string) string {
	t.Helper()
	return h.inspect(t, container).NetworkSettings.Networks[network].IPAddress
}

// init is the pid, on the host, of a container's first process.
func (h *Host) init(t *testing.T, container string) string {
	t.Helper()
	return strconv.Itoa(h.inspect(t, container).State.Pid)
}

// allocated is a network's VNI as Docker has it.
func (h *Host) allocated(network string) (vni string, err error) {
	var n struct{ Options map[string]string }
	if err = h.engine("GET", "/networks/"+network, &n); err == nil && n.Options["tapestry.vni"] == "" {
		err = fmt.Errorf("network %s has no VNI", network)
	}
	return n.Options["tapestry.vni"], err
}

// runs tells whether the task still runs.
func (k task) runs() bool {
	c, err := k.host.lookAt(k.container)
	return err == nil && c.State.Running
}

// apiVersion is the minor version of the API that dockerd speaks: 41 is Docker 20.10, 48 is 28.0, 52 is 29.0. The
// version that it reports depends on how it was built.
func (h *Host) apiVersion(t *testing.T) int {
	t.Helper()
	var version struct{ APIVersion string }
	if err := h.engine("GET", "/version", &version); err != nil {
		t.Fatal(err)
	}
	minor := 0
	if _, err := fmt.Sscanf(version.APIVersion, "1.%d", &minor); err != nil {
		t.Fatalf("dockerd speaks API %q: %v", version.APIVersion, err)
	}
	return minor
}
