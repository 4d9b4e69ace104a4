#!/usr/bin/perl
# Who may call whom: calls go down only, and no files call each other in a circle.
#
#	tests/layers.pl                 by the includes: no room includes what is above it, nor another room's private header
#					(unless it lies in that room, as qcow2/image does)
#	tests/layers.pl BUILD           and by the symbols of the objects in BUILD: no call that runs up, no circle of files
#
# $NM: another nm, for objects of another machine. The rooms, lowest first:
use strict;
use warnings;

my @floors = (
	['lib'], ['qcow2'], ['qcow2/image'], ['monitor'], ['kvm'],
	['engine/record'], ['engine/vm'], ['engine/chain'], ['engine/disks'], ['engine/savevm'], ['engine/qemu'],
	['engine/memory'], ['engine/save'], ['engine/checkpoint'], ['engine/blockjob'], ['engine/snapshot'], ['engine/archive'],
	['engine'], ['engine/boot'],
	['init/cli'], ['init/img'], ['init/supervisor'], ['init/cmd'], ['init'],
);
# Headers that any of the engine's rooms may include: the embedders' own, and the handle behind it.
my %open = map { $_ => 1 } qw(engine/fermata.h engine/vm/vm.h);
# Who speaks to QEMU knows nothing of images.
my %strangers = ('monitor' => qr{^qcow2}, 'kvm' => qr{^qcow2});

my %floor;
for my $i (0 .. $#floors) { $floor{$_} = $i for @{ $floors[$i] } }
my $bad = 0;

sub complain { print STDERR "layers: @_\n"; $bad = 1 }
sub room { my ($d) = $_[0] =~ m{^(.*)/}; $d }

my @files = split /\n/, `git ls-files 'lib/*.[ch]' 'qcow2/*.[ch]' 'monitor/*.[ch]' 'kvm/*.[ch]' 'engine/*.[ch]' 'init/*.[ch]' 2>/dev/null`;
@files = split /\n/, `find lib qcow2 monitor kvm engine init -name '*.[ch]'` unless @files;
for my $f (@files) {
	my $room = room($f);
	defined $floor{$room} or complain("$f: '$room' is no room"), next;
	open(my $in, '<', $f) or next;
	while (<$in>) {
		complain("$f:$.: only kvm forks") if $f =~ /\.c$/ && $room ne 'kvm' && /\b(v?fork|exec[vl]p?e?|posix_spawnp?) *\(/ && !m{^\s*(/?\*|//)};
		/^\s*#\s*include\s+"([^"]+)"/ or next;
		my ($h, $there) = ($1, room($1));
		next if !defined $there || $there eq $room || ($open{$h} && $room =~ /^engine/);
		defined $floor{$there} or complain("$f:$.: there is no room '$there'"), next;
		complain("$f:$.: includes $h, which is above it") if $floor{$there} > $floor{$room};
		complain("$f:$.: includes $h, which is private to $there") if $h =~ m{/internal\.h$} && $room !~ m{^\Q$there\E/};
		complain("$f:$.: includes $h") if $strangers{$room} && $there =~ $strangers{$room};
	}
}

if (my $build = shift @ARGV) {
	my (%defined, %wanted, %calls);
	my $nm = $ENV{NM} || 'nm';
	for my $c (grep { /\.c$/ } @files) {
		(my $o = "$build/$c") =~ s/\.c$/.o/;
		next unless -e $o;
		for (`$nm -g $o`) {
			$defined{$1} = $c if /^\S+ [A-TV-Z] (\S+)/;
			push @{ $wanted{$c} }, $1 if /^\s+U (\S+)/;
		}
	}
	complain("no objects in $build") unless %defined;
	for my $c (sort keys %wanted) {
		for my $s (@{ $wanted{$c} }) {
			my $to = $defined{$s} or next;
			next if $to eq $c;
			$calls{$c}{$to}{$s} = 1;
			complain("$c: calls $s() of $to, which is above it") if $floor{ room($to) } > $floor{ room($c) };
		}
	}
	# Tarjan's: every circle is one strongly connected component of more than one file.
	my (%index, %low, @stack, %on, $n, $visit);
	$visit = sub {
		my ($v) = @_;
		$index{$v} = $low{$v} = $n++;
		push @stack, $v;
		$on{$v} = 1;
		for my $w (sort keys %{ $calls{$v} // {} }) {
			if (!defined $index{$w}) { $visit->($w); $low{$v} = $low{$w} if $low{$w} < $low{$v} }
			elsif ($on{$w} && $index{$w} < $low{$v}) { $low{$v} = $index{$w} }
		}
		return if $low{$v} != $index{$v};
		my @circle;
		my $w;
		do { $w = pop @stack; delete $on{$w}; push @circle, $w } until $w eq $v;
		return if @circle < 2;
		my %in = map { $_ => 1 } @circle;
		complain("a circle of " . @circle . " files: @{[sort @circle]}");
		for my $a (sort @circle) {
			for my $b (grep { $in{$_} } sort keys %{ $calls{$a} }) {
				print STDERR "layers:   $a -> $b: @{[sort keys %{ $calls{$a}{$b} }]}\n";
			}
		}
	};
	$n = 0;
	$visit->($_) for grep { !defined $index{$_} } sort keys %calls;
}
print $bad ? "layers: see above\n" : "layers: clean\n";
exit $bad;
