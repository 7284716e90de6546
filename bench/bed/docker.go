package bed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// Docker is a dockerd on each host, with a network of its own and the containers that it runs.
type Docker struct {
	Driver string // of the network: bridge, on one host; overlay, of a Swarm of two hosts; tapestry
	Binary string // path of tapestry
	Agent  string // path of tapestry-bench: a static binary, since it is the only file of the containers' image
	token  string // to join the Swarm of host 1; Create of host 1 sets it
}

func (d *Docker) Name() string {
	if d.Driver == "tapestry" {
		return results.Tapestry
	}
	return "Docker " + d.Driver
}

func (d *Docker) Missing() string {
	return lacks("docker.io iptables", "dockerd", "docker", "containerd", "runc", "iptables")
}

// noExternal is a second network of tapestry's on one host, with tapestry.external=off: its containers get no
// docker_gwbridge. Container 2 is on it as well, at noExternalTarget.
const noExternal, noExternalTarget = "no-external", "10.78.0.2"

func (d *Docker) Create(ctx context.Context, h Host) error {
	if err := h.prepareDocker(ctx); err != nil {
		return err
	}
	var options []string
	if d.Driver == "tapestry" {
		args, given := Tapestry{d.Binary}.commandLine(h)
		if err := h.startCommand(h.commandOwnPIDs(ctx, args...), "msg=ready"); err != nil {
			return err
		}
		for key, value := range given {
			options = append(options, "--opt", key+"="+value)
		}
	}
	if err := h.dockerd(ctx); err != nil {
		return err
	}
	if err := h.importImage(ctx, d.Agent); err != nil {
		return err
	}
	switch {
	case d.Driver == "overlay" && h.number == 2: // the Swarm brings the network
		_, err := h.docker(ctx, "swarm", "join", "--advertise-addr", "192.0.2.2", "--token", d.token, "192.0.2.1:2377")
		return err
	case d.Driver == "overlay":
		if _, err := h.docker(ctx, "swarm", "init", "--advertise-addr", "192.0.2.1"); err != nil {
			return err
		}
		var err error
		if d.token, err = h.docker(ctx, "swarm", "join-token", "--quiet", "worker"); err != nil {
			return err
		}
		options = append(options, "--attachable")
	case d.Driver == "tapestry" && !h.twoHosts:
		if err := h.createNetwork(ctx, d.Driver, noExternal, "10.78.0", "--opt", "tapestry.external=off"); err != nil {
			return err
		}
	}
	return h.createNetwork(ctx, d.Driver, networkName, "10.77.0", options...)
}

func (d *Docker) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	id, err := h.docker(ctx, "create", "--network", networkName, "--ip", fmt.Sprintf("10.77.0.%d", n), image, "idle")
	if err == nil {
		err = h.startContainer(ctx, id)
	}
	if err == nil && n == 2 && d.Driver == "tapestry" && !h.twoHosts {
		_, err = h.docker(ctx, "network", "connect", "--ip", noExternalTarget, noExternal, id)
	}
	if err != nil {
		return nil, err
	}
	key, err := h.docker(ctx, "inspect", "--format", "{{.NetworkSettings.SandboxKey}}", id)
	if err != nil {
		return nil, err
	}
	c := &Node{nsenter: []string{"--net=" + h.path("/run/docker/netns/"+path.Base(key))}}
	// Docker's overlay configures no IPv6 and does not flood neighbour discovery, so addresses and neighbours are set here.
	err = c.sh(ctx, `link=$(ip -oneline address show to 10.77.0.%[1]d | cut -d ' ' -f 2)
		echo 0 >/proc/sys/net/ipv6/conf/$link/disable_ipv6
		ip address add fd77::%[1]d/64 dev $link nodad
		[ %[2]s != overlay ] || ip neighbour add fd77::%[3]d dev $link lladdr 02:42:0a:4d:00:0%[3]d`, n, d.Driver, 3-n)
	return c, err
}

// startContainer starts a container. The Swarm's manager has 20 s to attach it to a network of the overlay, which a busy machine may
// exceed: then it is asked again.
func (h Host) startContainer(ctx context.Context, id string) (err error) {
	for range 5 {
		_, err = h.docker(ctx, "start", id)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "attaching to network failed") {
			break
		}
	}
	return err
}

// FirstPing is the time from the start of `docker run` until container 2 has answered the new container's first ping. It
// works on beds of Docker only. external: a container of tapestry's gets docker_gwbridge as well, which is the default.
func (b *Bed) FirstPing(ctx context.Context, external bool) (time.Duration, error) {
	d, ok := b.Setup.(*Docker)
	if !ok {
		return 0, errors.New("only a bed of Docker can start a container")
	}
	on, target := networkName, b.address(false)
	if d.Driver == "tapestry" && !external {
		on, target = noExternal, noExternalTarget
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	h, began := b.hosts[0], time.Now()
	id, err := h.docker(ctx, "run", "--detach", "--network", on, image, "ping", target)
	if err != nil {
		return 0, err
	}
	defer h.docker(context.WithoutCancel(ctx), "rm", "--force", id) // if it is not removed now, it is with the bed
	if _, err := h.docker(ctx, "wait", id); err != nil {
		return 0, err
	}
	text, err := h.docker(ctx, "logs", id)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the container's output: %w", err)
	}
	return time.Unix(0, at).Sub(began), nil
}

// image is the name of the image of all containers.
const image = "bench"

// docker runs Docker's client on a host, and returns what it prints.
func (h Host) docker(ctx context.Context, args ...string) (string, error) {
	return output(h.dockerCommand(ctx, args...))
}

func (h Host) dockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	return h.command(ctx, append([]string{"docker", "--host", "unix:///run/docker.sock", "--config", "/run/docker-client"}, args...)...)
}

func (h Host) createNetwork(ctx context.Context, driver, name, net string, options ...string) error {
	_, err := h.docker(ctx, append(append([]string{"network", "create", "--driver", driver}, options...),
		"--subnet", net+".0/24", "--gateway", net+".254", "--ip-range", net+".128/25", name)...)
	return err
}

// importImage makes an image whose only file is the agent.
func (h Host) importImage(ctx context.Context, agent string) error {
	content, err := os.ReadFile(agent)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	err = t.WriteHeader(&tar.Header{Name: "tapestry-bench", Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = t.Write(content)
	}
	if err == nil {
		err = t.Close()
	}
	if err != nil {
		return fmt.Errorf("pack the image: %w", err)
	}
	cmd := h.dockerCommand(ctx, "import", "--change", `ENTRYPOINT ["/tapestry-bench", "agent"]`, "-", image)
	cmd.Stdin = &b
	_, err = output(cmd)
	return err
}

// prepareDocker gives a host what a dockerd of its own needs: a /proc of the host's processes, the machine's cgroups, and an
// /etc and an /opt that dockerd and containerd can write to.
func (h Host) prepareDocker(ctx context.Context) error {
	return h.launch(ctx, `mount -t proc proc /proc
		umount /sys
		mkdir -p /run/cgroup /run/docker
		mount --rbind /sys/fs/cgroup /run/cgroup
		mount -t sysfs sysfs /sys
		mount --rbind /run/cgroup /sys/fs/cgroup
		umount --lazy /run/cgroup
		for dir in etc opt; do
			mkdir -p /run/over/$dir/upper /run/over/$dir/work
			mount -t overlay -o lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work $dir /$dir
		done
		echo '{}' >/run/docker/daemon.json`)
}

// dockerd starts a dockerd that keeps all of its files in memory.
func (h Host) dockerd(ctx context.Context) error {
	cgroup := "tapestry-bench-" + h.pid()
	if err := h.removeCgroupAtEnd(cgroup); err != nil {
		return err
	}
	return h.startCommand(h.commandOwnPIDs(ctx, "dockerd", "--config-file", "/run/docker/daemon.json", "--data-root", "/run/docker-data",
		"--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock", "--bridge", "none",
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/"+cgroup), "API listen on")
}

// removeCgroupAtEnd removes a cgroup and those in it when the host has ended, which the kernel does not do. A process that
// outlives the bench waits for that: its standard input ends with the bench, even if the bench is killed.
func (h Host) removeCgroupAtEnd(name string) error {
	cmd := exec.Command("sh", "-c", `cat
		for try in $(seq 1200); do
			find /sys/fs/cgroup -depth -type d "(" -name "$0" -o -path "*/$0/*" ")" -exec rmdir {} + 2>/dev/null
			[ -n "$(find /sys/fs/cgroup -type d -name "$0")" ] || exit 0
			sleep 0.05 # there is no event for an empty cgroup
		done
		exit 1`, name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it does not get signals of a terminal
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start what removes cgroups: %w", err)
	}
	h.cleanUp = func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			fmt.Fprintf(os.Stderr, "  cgroup %s was not removed: %v\n", name, err)
		}
	}
	return nil
}
