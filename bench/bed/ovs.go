package bed

import (
	"context"
	"fmt"
)

// OpenVSwitch is Open vSwitch with its switch in user space, datapath_type=netdev, between two hosts. Its VXLAN is sent
// by a second bridge, br-phy, which has the underlay as a port, and the host's address: Documentation/howto/userspace-tunneling.rst.
type OpenVSwitch struct{}

func (OpenVSwitch) Name() string { return "Open vSwitch" }

func (OpenVSwitch) Missing() string {
	return lacks("openvswitch-switch ethtool", "ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ethtool")
}

func (OpenVSwitch) Create(ctx context.Context, h Host) error {
	return h.launch(ctx, `mkdir -p /run/openvswitch
		ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
		ovsdb-server /run/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --detach --pidfile -vconsole:err
		ovs-vsctl --timeout=30 --no-wait init
		ovs-vswitchd --detach --pidfile -vconsole:err
		ovs-vsctl --timeout=30 add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy underlay
		ip address del 192.0.2.%[1]d/24 dev underlay
		ip address add 192.0.2.%[1]d/24 dev br-phy
		ip link set br-phy up
		ovs-vsctl --timeout=30 add-br br0 -- set bridge br0 datapath_type=netdev \
			-- add-port br0 vx0 -- set interface vx0 type=vxlan options:key=77 options:local_ip=192.0.2.%[1]d options:remote_ip=192.0.2.%[2]d`,
		h.number, 3-h.number)
}

// AddContainer turns off checksum offload in the container: the switch reads the veth by AF_PACKET without a virtio-net
// header, so it would not see that a checksum is partial.
func (OpenVSwitch) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	if err := h.veth(ctx, n); err != nil {
		return nil, err
	}
	if err := h.launch(ctx, "ip link set v%[1]d up; ovs-vsctl --timeout=30 add-port br0 v%[1]d; ethtool -K c%[1]d tx off", n); err != nil {
		return nil, err
	}
	return h.addContainer(ctx, n, fmt.Sprintf("c%d", n))
}
