package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tapestry-net/tapestry/cluster"
)

// errSilent ends a session whose server answers nothing any more.
var errSilent = errors.New("etcd does not answer")

// A session is one connection to etcd, from a list, or from where the one before it has ended, until its watch ends.
type session struct {
	*Engine
	client *clientv3.Client
	ctx    context.Context
	fail   context.CancelCauseFunc
	watch  pb.Watch_WatchClient
	from   int64                         // the first revision that is watched
	lives  pb.Lease_LeaseKeepAliveClient // nil until the host has joined
	goes   sync.WaitGroup
	own    chan struct{} // what is under this host's own keys is not what it has put there
}

// beat is the time between two signs of life, in each direction.
func (e *Engine) beat() time.Duration { return e.ttl / 3 }

// silence is how long a server may say nothing.
func (e *Engine) silence() time.Duration { return max(2*e.beat(), 5*time.Second) }

// sessions has one session after the other, until ctx ends.
func (e *Engine) sessions(ctx context.Context) {
	pause := retryFirst
	last := "" // why the session before this one has ended, if it had not begun: to find out what that means takes time
	for ctx.Err() == nil {
		began := time.Now()
		err := e.run(ctx)
		if ctx.Err() != nil {
			return
		}
		e.log.Debug("a session with etcd has ended", "cause", err)
		e.mu.Lock()
		was, cause := e.status.Err, err.Error()
		e.mu.Unlock()
		if was != nil && cause == last {
			err = was
		} else {
			err = e.explain(ctx, err)
		}
		last = cause
		e.mu.Lock()
		e.set(nil, err)
		e.mu.Unlock()
		if was == nil || was.Error() != err.Error() {
			e.log.Warn("the cluster is away; what is known of it stays", "error", err)
		}
		if time.Since(began) > connectLimit/2 { // it went well, or waiting was long enough
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, retryMost)
	}
}

// run is one session. It returns why it ended.
func (e *Engine) run(ctx context.Context) error {
	client, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, fail := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	s := &session{Engine: e, client: client, ctx: ctx, fail: fail, own: make(chan struct{}, 1)}
	defer s.farewells()
	defer s.goes.Wait()
	defer fail(context.Canceled)
	events, err := s.resume()
	if err != nil {
		return err
	}
	if events != nil {
		e.view.resume(time.Now())
	} else {
		kvs, rev, err := s.list()
		if err != nil {
			return err
		}
		if events, err = s.follow(rev + 1); err != nil {
			return err
		}
		e.sink(e.view.list(kvs, e.at, time.Now(), e.bad))
		e.note(kvs)
	}
	s.goes.Go(s.keep)
	s.goes.Go(s.beats)
	tick := time.NewTicker(min(suspectTime/5, e.ttl/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case all := <-events:
			s.tell(e.view.events(all, e.at, time.Now(), e.bad))
			e.noteEvents(all)
		case <-tick.C:
			u, old := e.view.tick(time.Now(), e.keepFor)
			s.tell(u)
			if len(old) > 0 {
				s.goes.Go(func() { s.outlived(old) })
			}
		}
	}
}

// farewells gives the lease back if Close has ended the session.
func (s *session) farewells() {
	s.mu.Lock()
	ctx, lease := s.farewell, s.lease.Swap(0)
	s.farewell = nil
	s.mu.Unlock()
	if ctx == nil || lease == 0 {
		s.lease.Store(lease)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.StrongLimit)
	defer cancel()
	if _, err := s.client.Revoke(ctx, clientv3.LeaseID(lease)); err != nil {
		s.mu.Lock()
		s.left = fmt.Errorf("leave the cluster: %w: %s", cluster.ErrUnavailable, s.words(err))
		s.mu.Unlock()
	}
}

// tell gives changes to the sink.
func (s *session) tell(u cluster.Update) {
	if len(u.Entries)+len(u.Removed) > 0 {
		s.sink(u)
	}
}

// bad counts what cannot be used, and says so once.
func (e *Engine) bad(err error) {
	e.ignored.Add(1)
	e.once("something in etcd is ignored", "error", err)
}

// connect makes a client. With a user it asks etcd for a token.
func (e *Engine) connect(ctx context.Context) (*clientv3.Client, error) {
	secret, err := e.config.TLS.load()
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, ep := range e.config.Endpoints {
		address, secure, _ := e.config.endpoint(ep)
		if secure {
			address = "https://" + address
		} else {
			address = "http://" + address
		}
		endpoints = append(endpoints, address)
	}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: secret, Username: e.config.User, Password: e.config.Password, Context: ctx,
		DialTimeout: setupLimit, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, // the least that gRPC has
		// A lost SYN is sent again after 1, 3 and 7 s: beginning anew is sooner when a broken network heals.
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: connectLimit}).DialContext(ctx, "tcp", address)
		})},
		Logger: zap.NewNop(), // it says much, and what matters is in the errors
	})
}

// setup is a request while the session begins.
func (s *session) setup(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, setupLimit)
	defer cancel()
	return f(ctx)
}

// page is how many keys one request lists.
const page = 500

// list reads all below hosts/, and the revision that this is of.
func (s *session) list() (all []*mvccpb.KeyValue, rev int64, err error) {
	from, to := s.at.hosts(), clientv3.GetPrefixRangeEnd(s.at.hosts())
	var bytes int
	for more := true; more && err == nil; {
		err = s.setup(func(ctx context.Context) error {
			r, err := s.client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(page), clientv3.WithRev(rev))
			if err != nil {
				return err
			}
			if rev == 0 {
				rev = r.Header.Revision
				s.compare(r.Header)
			}
			for _, kv := range r.Kvs {
				bytes += len(kv.Key) + len(kv.Value)
				from = string(kv.Key) + "\x00"
			}
			all, more = append(all, r.Kvs...), r.More
			if len(all) > 2*maxHosts || bytes > 2*maxBytes {
				more = false
				s.bad(fmt.Errorf("there are more than %d keys or %d bytes below %s", 2*maxHosts, 2*maxBytes, s.at.hosts()))
			}
			return nil
		})
	}
	return all, rev, err
}

// compare tells when etcd's data are older than what was seen before.
func (s *session) compare(h *pb.ResponseHeader) {
	s.mu.Lock()
	rev, of := s.lastRev, s.dataOf
	s.lastRev, s.dataOf = h.Revision, h.ClusterId
	s.mu.Unlock()
	if of != 0 && (of != h.ClusterId || rev > h.Revision) {
		s.log.Warn("etcd has lost data, or was restored from a backup; this host writes again what is its own",
			"revision", h.Revision, "was", rev, "other etcd", of != h.ClusterId)
	}
}

// follow watches hosts/ from a revision on.
func (s *session) follow(rev int64) (<-chan []*mvccpb.Event, error) {
	s.from = rev
	var err error
	if s.watch, err = pb.NewWatchClient(s.client.ActiveConnection()).Watch(s.ctx); err != nil {
		return nil, err
	}
	// Fragments, so that a message is never larger than what gRPC takes.
	err = s.watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(s.at.hosts()), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(s.at.hosts())), StartRevision: rev, Fragment: true,
	}}})
	if err != nil {
		_, err = s.watch.Recv()
		return nil, err
	}
	events, created := make(chan []*mvccpb.Event), make(chan struct{})
	s.goes.Go(func() { s.fail(s.receive(events, created)) })
	select {
	case <-created:
		return events, nil
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

// receive takes what the watch sends until it ends. Time counts only while it waits for the server.
func (s *session) receive(events chan<- []*mvccpb.Event, created chan struct{}) error {
	dog := time.AfterFunc(setupLimit, func() { s.fail(errSilent) })
	defer dog.Stop()
	for {
		r, err := s.watch.Recv()
		dog.Stop()
		switch {
		case err != nil:
			return rpctypes.Error(err)
		case r.CompactRevision != 0:
			return rpctypes.ErrCompacted
		case r.Canceled:
			return fmt.Errorf("etcd has ended the watch: %w", rpctypes.Error(errors.New(r.CancelReason)))
		case r.Created:
			close(created)
		}
		s.mu.Lock()
		s.lastRev = max(s.lastRev, r.Header.GetRevision())
		s.mu.Unlock()
		// A member that lags behind the one that was listed may send what was before (etcd-io/etcd#20221).
		news := slices.DeleteFunc(r.Events, func(ev *mvccpb.Event) bool { return ev.Kv.ModRevision < s.from })
		for _, ev := range news {
			s.foreign(ev)
		}
		if len(news) > 0 {
			select {
			case events <- news:
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
		}
		dog.Reset(s.silence())
	}
}

// foreign tells the keeper if somebody else has changed what is this host's own.
func (s *session) foreign(ev *mvccpb.Event) {
	key := string(ev.Kv.Key)
	if ev.Type == mvccpb.Event_PUT && key == s.at.alive(s.self.ID) && string(ev.Kv.Value) == s.mine {
		return
	}
	if key == s.at.alive(s.self.ID) || key == s.at.record(s.self.ID) && ev.Type == mvccpb.Event_DELETE {
		poke(s.own)
	}
}

// poke wakes up who reads c.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it wakes up anyway
	}
}

// beats sends signs of life: to keep the lease, and to have answers on the watch.
func (s *session) beats() {
	ticker := time.NewTicker(s.beat())
	defer ticker.Stop()
	progress := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		// If it cannot be sent the stream has ended, and who receives from it gets the reason.
		s.watch.Send(progress)
	}
}

// live opens the stream that keeps the lease, unless it is open.
func (s *session) live() error {
	if s.lives != nil {
		return nil
	}
	stream, err := pb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(s.ctx)
	if err != nil {
		return err
	}
	s.lives = stream
	s.goes.Go(func() { s.fail(s.answers()) })
	s.goes.Go(func() {
		ticker := time.NewTicker(s.beat())
		defer ticker.Stop()
		for s.ctx.Err() == nil {
			if lease := s.lease.Load(); lease != 0 {
				stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}) // as above
			}
			select {
			case <-s.ctx.Done():
			case <-ticker.C:
			}
		}
	})
	return nil
}

// answers takes what etcd says to the signs of life.
func (s *session) answers() error {
	dog := time.AfterFunc(s.silence(), func() { s.fail(errSilent) })
	defer dog.Stop()
	for {
		r, err := s.lives.Recv()
		if err != nil {
			return rpctypes.Error(err)
		}
		dog.Reset(s.silence())
		if r.TTL <= 0 && s.lease.CompareAndSwap(r.ID, 0) {
			s.log.Info("the lease has ended; this host takes a new one")
			poke(s.own)
		}
	}
}
