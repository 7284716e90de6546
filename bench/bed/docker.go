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
	"syscall"
	"time"
)

// Docker is a network of a dockerd on each site, with containers that it runs.
type Docker struct {
	Driver string // of the network: bridge, on one host; overlay, of a swarm of two; tapestry
	Binary string // tapestry
	Agent  string // tapestry-bench: a static binary, since it is all that the containers have
	token  string // to join the swarm of site 1
}

func (d *Docker) Name() string {
	if d.Driver == "tapestry" {
		return "tapestry"
	}
	return "Docker " + d.Driver
}

func (d *Docker) Missing() string {
	return lacks("docker.io iptables", "dockerd", "docker", "containerd", "runc", "iptables")
}

// noExternal is a second network of tapestry's on one host, without docker_gwbridge; container 2 is on it as well.
const noExternal, noExternalTarget = "confined", "10.78.0.2"

func (d *Docker) Create(ctx context.Context, s Host) error {
	if err := s.prepareDocker(ctx); err != nil {
		return err
	}
	var options []string
	if d.Driver == "tapestry" {
		args, given := Tapestry{d.Binary}.commandLine(s)
		if err := s.track(s.commandOwnPIDs(ctx, args...), "msg=ready"); err != nil {
			return err
		}
		for key, value := range given {
			options = append(options, "--opt", key+"="+value)
		}
	}
	if err := s.dockerd(ctx); err != nil {
		return err
	}
	if err := s.importImage(ctx, d.Agent); err != nil {
		return err
	}
	switch {
	case d.Driver == "overlay" && s.number == 2: // the network comes with the swarm
		_, err := s.docker(ctx, "swarm", "join", "--advertise-addr", "192.0.2.2", "--token", d.token, "192.0.2.1:2377")
		return err
	case d.Driver == "overlay":
		if _, err := s.docker(ctx, "swarm", "init", "--advertise-addr", "192.0.2.1"); err != nil {
			return err
		}
		var err error
		if d.token, err = s.docker(ctx, "swarm", "join-token", "--quiet", "worker"); err != nil {
			return err
		}
		options = append(options, "--attachable")
	case d.Driver == "tapestry" && !s.twoHosts:
		if err := s.createNetwork(ctx, d.Driver, noExternal, "10.78.0", "--opt", "tapestry.external=off"); err != nil {
			return err
		}
	}
	return s.createNetwork(ctx, d.Driver, networkName, "10.77.0", options...)
}

func (d *Docker) AddContainer(ctx context.Context, s Host, n int) (*Node, error) {
	id, err := s.docker(ctx, "run", "--detach", "--network", networkName, "--ip", fmt.Sprintf("10.77.0.%d", n), image, "idle")
	if err == nil && n == 2 && d.Driver == "tapestry" && !s.twoHosts {
		_, err = s.docker(ctx, "network", "connect", "--ip", noExternalTarget, noExternal, id)
	}
	if err != nil {
		return nil, err
	}
	key, err := s.docker(ctx, "inspect", "--format", "{{.NetworkSettings.SandboxKey}}", id)
	if err != nil {
		return nil, err
	}
	c := &Node{nsenter: []string{"--net=" + s.path("/run/docker/netns/"+path.Base(key))}}
	// By hand, since Docker's overlay has no IPv6, nor does it carry what would find a neighbour.
	err = c.sh(ctx, `link=$(ip -oneline address show to 10.77.0.%[1]d | cut -d ' ' -f 2)
		echo 0 >/proc/sys/net/ipv6/conf/$link/disable_ipv6
		ip address add fd77::%[1]d/64 dev $link nodad
		[ %[2]s != overlay ] || ip neighbour add fd77::%[3]d dev $link lladdr 02:42:0a:4d:00:0%[3]d`, n, d.Driver, 3-n)
	return c, err
}

// FirstPing is the time from the start of `docker run` until the new container has had its first answer to a ping from
// container 2. external says whether a container of tapestry's gets Docker's way out as well, which is its default.
func (b *Bed) FirstPing(ctx context.Context, external bool) (time.Duration, error) {
	d, ok := b.Setup.(*Docker)
	if !ok {
		return 0, errors.New("containers arrive on Docker's beds only")
	}
	on, target := networkName, b.address(false)
	if d.Driver == "tapestry" && !external {
		on, target = noExternal, noExternalTarget
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s, began := b.hosts[0], time.Now()
	id, err := s.docker(ctx, "run", "--detach", "--network", on, image, "arrive", target)
	if err != nil {
		return 0, err
	}
	defer s.docker(context.WithoutCancel(ctx), "rm", "--force", id) // if it does not go now, it goes with the bed
	if _, err := s.docker(ctx, "wait", id); err != nil {
		return 0, err
	}
	text, err := s.docker(ctx, "logs", id)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what the container said: %w", err)
	}
	return time.Unix(0, at).Sub(began), nil
}

// image is the name of what the containers are made of.
const image = "bench"

// docker runs the client on a site.
func (s Host) docker(ctx context.Context, args ...string) (string, error) {
	return output(s.dockerCommand(ctx, args...))
}

func (s Host) dockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	return s.command(ctx, append([]string{"docker", "--host", "unix:///run/docker.sock", "--config", "/run/docker-client"}, args...)...)
}

func (s Host) createNetwork(ctx context.Context, driver, name, net string, options ...string) error {
	_, err := s.docker(ctx, append(append([]string{"network", "create", "--driver", driver}, options...),
		"--subnet", net+".0/24", "--gateway", net+".254", "--ip-range", net+".128/25", name)...)
	return err
}

// importImage makes an image of one file.
func (s Host) importImage(ctx context.Context, agent string) error {
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
	cmd := s.dockerCommand(ctx, "import", "--change", `ENTRYPOINT ["/tapestry-bench", "agent"]`, "-", image)
	cmd.Stdin = &b
	_, err = output(cmd)
	return err
}

// prepareDocker gives a site what a dockerd of its own wants: a /proc that shows its own processes, the machine's
// cgroups, and an /etc and /opt in which it and containerd may write.
func (s Host) prepareDocker(ctx context.Context) error {
	return s.launch(ctx, `mount -t proc proc /proc
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

// dockerd starts it, with all of its files in memory.
func (s Host) dockerd(ctx context.Context) error {
	cgroup := "tapestry-bench-" + s.pid()
	if err := s.removeCgroupAtEnd(cgroup); err != nil {
		return err
	}
	return s.track(s.commandOwnPIDs(ctx, "dockerd", "--config-file", "/run/docker/daemon.json", "--data-root", "/run/docker-data",
		"--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock", "--bridge", "none",
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/"+cgroup), "API listen on")
}

// removeCgroupAtEnd removes a cgroup and those in it when the site has ended. The kernel does not, so a process waits for
// it that outlives the bench: its standard input ends with the bench, however that ends.
func (s Host) removeCgroupAtEnd(name string) error {
	cmd := exec.Command("sh", "-c", `cat
		for try in $(seq 200); do
			find /sys/fs/cgroup -depth -type d "(" -name "$0" -o -path "*/$0/*" ")" -exec rmdir {} + 2>/dev/null
			[ -n "$(find /sys/fs/cgroup -type d -name "$0")" ] || exit 0
			sleep 0.05 # nothing tells when a cgroup gets empty
		done
		exit 1`, name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's signals are not for it
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("make ready to remove cgroups: %w", err)
	}
	s.cleanUp = func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			fmt.Fprintf(os.Stderr, "  cgroup %s is left: %v\n", name, err)
		}
	}
	return nil
}
