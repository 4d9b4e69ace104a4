#!/usr/bin/perl
# The measuring half of disks.sh:
#   disks.pl switch ROOT DISKS RUNS    the pause that the guest sees, and fermata's time over the bare transaction
#   disks.pl chain ROOT DEPTH... RUNS  commands at depths of the chain, VM off and running
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use List::Util 'max';
use POSIX 'WNOHANG';
use Time::HiRes 'time';

my ($mode, $root, @args) = @ARGV;
my $runs = pop @args;
my $fermata = $ENV{FERMATA};
open(my $out, '>&', \*STDOUT) or die;
open(STDOUT, '>', '/dev/null') or die; # the commands' own

sub row {
	my ($name, @t) = @_;
	@t = sort { $a <=> $b } @t;
	printf $out "%-46s %7.2f (%.2f, %.2f)\n", $name, $t[$#t / 2], $t[0], $t[-1];
}
sub timed {
	my $from = time;
	system(@_) == 0 or die "@_: failed\n";
	return 1000 * (time - $from);
}
sub fermata { return timed($fermata, '--root', $root, @_) }

sub connect_to {
	my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $_[0]) or die "cannot connect to $_[0]: $!\n";
	return $s;
}
my $qmp;
sub qmp {
	my ($command, $args) = @_;
	my $text = encode_json({ execute => $command, $args ? (arguments => $args) : () }) . "\n";
	syswrite($qmp, $text) == length $text or die "QEMU is gone\n";
	while (my $line = <$qmp>) {
		my $m = decode_json($line);
		die "$command: $m->{error}{desc}\n" if $m->{error};
		return $m->{return} if exists $m->{return};
	}
	die "QEMU is gone\n";
}
sub qmp_open {
	$qmp = connect_to("$root/run/fermata/$_[0]/events.sock");
	<$qmp>;
	qmp('qmp_capabilities');
}

# ---- the switch ----

# The longest time between two of the guest's lines in 300 ms, or longer if a command that is begun 50 ms on takes longer.
my $serial;
sub longest_gap {
	my (@command) = @_;
	my $sel = IO::Select->new($serial);
	my ($pid, $last, $gap) = (0, undef, 0);

	sysread($serial, my $old, 1 << 20) while $sel->can_read(0); # what was said before
	my $from = time;
	while (@command || $pid > 0 || time() < $from + 0.3) {
		if (@command && time() > $from + 0.05) {
			$pid = fork // die;
			exec($fermata, '--root', $root, @command) or die unless $pid;
			@command = ();
		}
		sysread($serial, my $text, 4096) or die "the guest is gone\n";
		if ($text =~ /\n/) {
			my $now = time;
			$gap = max($gap, $now - $last) if defined $last;
			$last = $now;
		}
		if ($pid > 0 && waitpid($pid, WNOHANG) == $pid) {
			die "the command failed\n" if $?;
			$pid = -1;
		}
	}
	return 1000 * $gap;
}

# A transaction over all disks of the VM called "bare", of the kind that fermata sends (everything made before), or of
# the kind with which QEMU makes the overlays. Its round trip.
my $n = 0;
my $add; # how long QEMU took to open the overlays that were ready
sub bare {
	my ($how, @disks) = @_;
	my @actions;

	$n++;
	$add = 0 if $how eq 'ready';
	for my $d (@disks) {
		my $file = "$root/images/bare-$d.$n.qcow2";
		my $top = qmp('qom-get', { path => "/machine/peripheral/$d", property => 'drive' });

		if ($how eq 'sync') {
			push @actions, { type => 'blockdev-snapshot-sync', data => { 'node-name' => $top, 'snapshot-file' => $file,
				'snapshot-node-name' => "s$n.$d", format => 'qcow2' } };
			next;
		}
		timed('qemu-img', 'create', '-q', '-f', 'qcow2', $file, '64M');
		my $from = time;
		qmp('blockdev-add', { driver => 'qcow2', 'node-name' => "s$n.$d", backing => undef, file => { driver => 'file', filename => $file } });
		$add += 1000 * (time - $from);
		push @actions, { type => 'blockdev-snapshot', data => { node => $top, overlay => "s$n.$d" } };
	}
	my $from = time;
	qmp('transaction', { actions => \@actions });
	return 1000 * (time - $from);
}

sub switch {
	my ($disks) = @args;
	my @disks = map { 'vd' . chr(ord('a') + $_) } 0 .. $disks - 1;
	my %t;

	$serial = connect_to("$root/w.serial");
	my $said = '';
	sysread($serial, $said, 4096, length $said) or die "the guest is gone\n" until $said =~ /^mem=/m;
	qmp_open('bare');
	for my $i (1 .. $runs) {
		my @create = ('snapshot-create-as', 'w', "k$i", '--disk-only');

		push @{ $t{gap} }, longest_gap(@create);
		push @{ $t{still} }, longest_gap();
		fermata('snapshot-delete', 'w', "k$i");
	}
	# From here on the guests stand, and leave the processor to us.
	fermata('suspend', 'w');
	for my $i (1 .. $runs) {
		push @{ $t{start} }, fermata('--version');
		push @{ $t{wall} }, fermata('snapshot-create-as', 'w', "k$i", '--disk-only');
		push @{ $t{ready} }, bare('ready', @disks);
		push @{ $t{sync} }, bare('sync', @disks);
		push @{ $t{over} }, $t{wall}[-1] - $t{start}[-1] - $t{ready}[-1];
		push @{ $t{same} }, $t{wall}[-1] - $t{start}[-1] - $t{sync}[-1];
		push @{ $t{add} }, $t{wall}[-1] - $t{start}[-1] - $t{ready}[-1] - $add;
		fermata('snapshot-delete', 'w', "k$i");
	}
	row("$disks disks: the guest's longest gap, snapshot", @{ $t{gap} });
	row("$disks disks: the guest's longest gap, nothing", @{ $t{still} });
	row("$disks disks: the command", @{ $t{wall} });
	row("$disks disks: of it, process start and end", @{ $t{start} });
	row("$disks disks: bare transaction, overlays ready", @{ $t{ready} });
	row("$disks disks: bare transaction, QEMU makes them", @{ $t{sync} });
	row("$disks disks: fermata over the one of ready ones", @{ $t{over} });
	row("$disks disks: ... and over QEMU's opening of them", @{ $t{add} });
	row("$disks disks: fermata over the one that makes them", @{ $t{same} });
}

# ---- the chain ----

my $id = 0;
my @names;
sub grow_to {
	my ($to) = @_;

	while (@names < $to) {
		push @names, 's' . ++$id;
		fermata('snapshot-create-as', 'w', $names[-1], '--disk-only');
	}
}
sub chain {
	my %t;
	my @depths = @args;

	for my $state ('off', 'running') {
		for my $d (@depths) {
			fermata('start', 'w') if $state eq 'running' && $d == $depths[0];
			fermata('snapshot-delete', 'w', shift @names) while @names > $d;
			grow_to($d);
			for my $i (1 .. $runs) {
				push @{ $t{"$state, delete"}{$d} }, fermata('snapshot-delete', 'w', splice(@names, @names / 2, 1));
				push @names, 's' . ++$id;
				push @{ $t{"$state, create"}{$d} }, fermata('snapshot-create-as', 'w', $names[-1], '--disk-only');
				push @{ $t{"$state, list"}{$d} }, fermata('snapshot-list', 'w');
				push @{ $t{"$state, revert"}{$d} }, fermata('snapshot-revert', 'w', $names[-1], $state eq 'off' ? () : '--running');
			}
		}
	}
	fermata('destroy', 'w');
	printf $out "%-20s %s\n", '', join '', map { sprintf '%12s', "depth $_" } @depths;
	for my $op (map { my $s = $_; map { "$s, $_" } qw(create list revert delete) } 'off', 'running') {
		printf $out "%-20s %s\n", $op, join '', map { my @v = sort { $a <=> $b } @{ $t{$op}{$_} }; sprintf '%12.1f', $v[$#v / 2] } @depths;
	}
}

$mode eq 'switch' ? switch() : chain();
