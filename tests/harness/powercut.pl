#!/usr/bin/perl
# What a power cut may leave of the files below some folders, rebuilt from what programs have asked the kernel to do.
#
#	powercut.pl read TRACE OUT FOLDER...     read what "strace -f -y -xx -s 100000000" has written of the calls in @CALLS
#	powercut.pl calls                        the calls that it has to trace, for strace's -e trace=
#	powercut.pl make OUT BEFORE AFTER N OF SEED
#	                                         the folders become state N of OF: from their copies in BEFORE (FOLDER's last
#	                                         component is its name there), with the times of those in AFTER; says which
#
# The rule: at the moment of the cut, all that was complete in a file when a flush of it began, and in a folder when a flush of
# that began, is there, if that flush had come to its end. Of everything later any part may be there: a write or not, or cut
# off at a sector; a name or not; a rename whole or not. A file's time of change is that of its inode: fsync() writes it,
# fdatasync() does not. State 1 is the end of all with nothing that was not flushed; the others are random, by the seed.
use strict;
use warnings;
use Storable qw(store retrieve);

my @CALLS = qw(open openat creat lseek write pwrite64 writev pwritev pwritev2 ftruncate truncate fallocate rename renameat renameat2 unlink
	unlinkat link linkat symlink symlinkat mkdir rmdir fsync fdatasync sync syncfs sync_file_range copy_file_range sendfile);

# ---- strace's words --------------------------------------------------------------------------------------------------

# With -xx every string is in hex, paths of descriptors too
sub plain {
	my $s = shift // return undef;
	return $s =~ /\\x/ ? pack('H*', $s =~ s/\\x//gr) : $s;
}

# The strings in quotes of a call's arguments, in order
sub strings {
	my ($args) = @_;
	my @all;
	while ($args =~ /"([^"]*)"(\.\.\.)?/g) {
		die "powercut.pl: strace has cut a string off\n" if $2;
		push @all, plain($1);
	}
	return @all;
}

# A folder argument and a name: strace -y tells the folder's path
sub at {
	my ($dir, $name) = @_;
	return $name if $name =~ m{^/};
	return $dir =~ m{<(.*)>} ? plain($1) . "/$name" : $name;
}

# ---- reading ---------------------------------------------------------------------------------------------------------

# Events, in the order in which they were complete: [ what, path, ... ]; a flush also has how many were before it began.
sub read_trace {
	my ($file, @folders) = @_;
	my (@events, %begun);
	my $inside = join '|', map { quotemeta } @folders;
	my $ours = qr{^(?:$inside)(?:/|$)};
	open my $f, '<:raw', $file or die "powercut.pl: $file: $!\n";
	while (my $line = <$f>) {
		my ($pid, $rest) = $line =~ /^(\d+)\s+(.*)$/s or next;
		my $from = @events;
		if ($rest =~ /^<\.\.\. \w+ resumed>(.*)$/s) {
			my $b = delete $begun{$pid} or next;
			$rest = $b->[0] . $1;
			$from = $b->[1];
		} elsif ($rest =~ /^(.*) <unfinished \.\.\.>$/s) {
			$begun{$pid} = [ $1, $from ];
			next;
		}
		my ($call, $args, $result) = $rest =~ /^(\w+)\((.*)\)\s+= (-?\d+)/s or next;
		next if $result < 0;
		my $fd = $args =~ /^\d+<([^>]*)>/ ? plain($1) : undef;
		if ($call =~ /^(?:fsync|fdatasync|syncfs)$/) {
			push @events, [ $call eq 'fdatasync' ? 'data' : 'flush', $fd, $from ] if defined $fd && $fd =~ $ours;
		} elsif ($call =~ /^p?write/) {
			next unless defined $fd && $fd =~ $ours;
			my $data = substr join('', strings($args)), 0, $result;
			my ($off) = $call =~ /^pwritev/ ? $args =~ /\], \d+, (\d+)/ : $call eq 'pwrite64' ? $args =~ /, (\d+)$/ : ();
			push @events, [ 'write', $fd, $off, $data ];
		} elsif ($call =~ /^(?:open|openat|creat)$/) {
			my ($name) = strings($args);
			my $path = at($args =~ /^([^,]*),/, $name);
			$args .= 'O_CREAT|O_TRUNC' if $call eq 'creat';
			next unless $path =~ $ours && $args =~ /O_CREAT|O_TRUNC|O_APPEND/ && $args !~ /O_TMPFILE/;
			push @events, [ 'create', $path ] if $args =~ /O_CREAT/;
			push @events, [ 'seek', $path, 0 ];
			push @events, [ 'size', $path, 0 ] if $args =~ /O_TRUNC/;
		} elsif ($call eq 'lseek') {
			push @events, [ 'seek', $fd, $result ] if defined $fd && $fd =~ $ours && $args !~ /SEEK_(?:DATA|HOLE)/;
		} elsif ($call eq 'ftruncate') {
			push @events, [ 'size', $fd, $args =~ /, (\d+)$/ ] if defined $fd && $fd =~ $ours;
		} elsif ($call eq 'fallocate') {
			next unless defined $fd && $fd =~ $ours;
			my ($mode, $off, $n) = $args =~ /, ([^,]*), (\d+), (\d+)$/ or die "powercut.pl: $args\n";
			push @events, [ $mode =~ /PUNCH|ZERO/ ? 'zero' : 'room', $fd, $off, $n, $mode =~ /KEEP_SIZE/ ];
		} elsif ($call =~ /^rename/ || $call =~ /^link/) {
			my @name = strings($args);
			my @dir = $args =~ /(?:^|, )((?:AT_FDCWD|\d+)(?:<[^>]*>)?), "/g;
			my ($a, $b) = (at($dir[0] // '', $name[0]), at($dir[1] // '', $name[1]));
			push @events, [ $call =~ /^link/ ? 'link' : 'rename', $a, $b ] if $a =~ $ours || $b =~ $ours;
		} elsif ($call =~ /^symlink/) {
			my @name = strings($args);
			push @events, [ 'symlink', $name[1], $name[0] ] if $name[1] =~ $ours;
		} elsif ($call =~ /^(?:unlink|rmdir)/) {
			my ($name) = strings($args);
			my $path = at($args =~ /^([^,]*),/ ? $1 : '', $name);
			push @events, [ 'unlink', $path ] if $path =~ $ours;
		} elsif ($call eq 'mkdir') {
			my ($name) = strings($args);
			push @events, [ 'folder', $name ] if $name =~ $ours;
		} elsif ($call =~ /^(?:sync|truncate|copy_file_range|sendfile)$/ && $args =~ $inside) {
			die "powercut.pl: $call is not known here\n";
		}
	}
	return \@events;
}

# ---- a model of the files ----------------------------------------------------------------------------------------------

# { name => path to inode number; data => inode number to content }; an inode of -1: none; a folder has no content.
sub dir_of { my $p = shift; $p =~ s{/[^/]*$}{}; return $p }

# Turn events into changes of inodes and names, each with when it is durable.
# [ index of the event, inode or undef, folder or undef, what, ... ]
sub changes {
	my ($events, $names, $next) = @_;
	my (%at, @position, @changes, %flushed);
	%at = %$names;
	for my $i (0 .. $#$events) {
		my ($what, $path, @more) = @{ $events->[$i] };
		my $ino = $at{$path};
		if ($what eq 'create') {
			next if defined $ino;
			$ino = $at{$path} = $next++;
			push @changes, [ $i, undef, dir_of($path), { $path => $ino } ];
		} elsif ($what eq 'rename' || $what eq 'link') {
			next unless defined $ino;
			my %set = ($more[0] => $ino);
			$at{$more[0]} = $ino;
			if ($what eq 'rename') {
				delete $at{$path};
				$set{$path} = -1;
			}
			push @changes, [ $i, undef, dir_of($more[0]), \%set ];
		} elsif ($what eq 'unlink') {
			next unless defined $ino;
			delete $at{$path};
			push @changes, [ $i, undef, dir_of($path), { $path => -1 } ];
		} elsif ($what eq 'write') {
			next unless defined $ino;
			my ($off, $data) = @more;
			# Without an offset of its own it goes on where the last one ended: one program at a time writes so.
			if (!defined $off) {
				$off = $position[$ino] // die "powercut.pl: where is a write to $path?\n";
				$position[$ino] += length $data;
			}
			push @changes, [ $i, $ino, undef, 'write', $off, $data ];
		} elsif ($what eq 'seek') {
			$position[$ino] = $more[0] if defined $ino;
		} elsif ($what =~ /^(?:size|zero)$/) {
			push @changes, [ $i, $ino, undef, $what, @more ] if defined $ino;
		} elsif ($what =~ /^(?:flush|data)$/) {
			push @{ $flushed{ $ino // $path } }, [ $i, $more[0], $what ];
		}
	}
	return (\@changes, \%flushed, \%at);
}

# How the change is at a cut behind event $at: durable or not
sub is_durable {
	my ($c, $flushed, $at) = @_;
	for my $f (@{ $flushed->{ $c->[1] // $c->[2] } // [] }) {
		return 1 if $f->[0] <= $at && $f->[1] > $c->[0];
	}
	return 0;
}

sub apply {
	my ($data, $c) = @_;
	my (undef, $ino, undef, $what, $off, $more) = @$c;
	my $was = \($data->{$ino} //= '');
	if ($what eq 'size') {
		$$was = length $$was > $off ? substr($$was, 0, $off) : $$was . "\0" x ($off - length $$was);
		return;
	}
	$more = "\0" x $more if $what eq 'zero';
	if ($what eq 'zero') {
		return if $off >= length $$was;
		$more = substr $more, 0, length($$was) - $off;
	}
	$$was .= "\0" x ($off - length $$was) if length $$was < $off;
	substr($$was, $off, length $more) = $more;
}

# ---- a state ---------------------------------------------------------------------------------------------------------

sub slurp { open my $f, '<:raw', $_[0] or die "powercut.pl: $_[0]: $!\n"; local $/; return <$f> }

# Written with its holes
sub spill {
	my ($path, $data) = @_;
	open my $f, '>:raw', $path or die "powercut.pl: $path: $!\n";
	for (my $at = 0; $at < length $data; $at += 65536) {
		my $piece = substr $data, $at, 65536;
		next if $piece !~ /[^\0]/;
		seek $f, $at, 0;
		print $f $piece;
	}
	close $f or die "powercut.pl: $path: $!\n";
	truncate $path, length $data or die "powercut.pl: $path: $!\n";
	chmod 0600, $path;
}

sub find { my $from = shift; open my $p, '-|', 'find', $from, @_ or die; chomp(my @all = <$p>); return @all }

sub make {
	my ($file, $before, $after, $n, $of, $seed) = @_;
	my $trace = retrieve($file);
	my ($events, @folders) = ($trace->{events}, @{ $trace->{folders} });
	my (%names, %data, %was, %kept, $next);
	$next = 1;
	srand($seed + $n);
	for my $folder (@folders) {
		my ($base) = $folder =~ m{([^/]*)$};
		for my $f (find("$before/$base", '-type', 'f')) {
			(my $path = $f) =~ s{^\Q$before/$base\E}{$folder};
			$names{$path} = $next;
			$was{$next} = $f;
			$data{ $next++ } = slurp($f);
		}
	}
	my ($changes, $flushed, $end) = changes($events, \%names, $next);
	# Moments at which something was just made durable, or a name has just changed, and before that, are the interesting ones.
	my @moments = grep { $events->[$_][0] =~ /^(?:flush|data|rename|unlink|create)$/ } 0 .. $#$events;
	push @moments, map { $_ ? $_ - 1 : 0 } @moments;
	my $cut = $n == 1 ? $#$events : $moments[ rand @moments ] // $#$events;
	my $share = $n == 1 ? 0 : (0, 0.5, 0.9, 1)[ rand 4 ];
	my ($lost, $torn, %newest) = (0, 0);
	for my $c (@$changes) {
		last if $c->[0] > $cut;
		my $there = is_durable($c, $flushed, $cut) || rand() < $share;
		if (!$there) {
			$lost++;
		} elsif (!defined $c->[1]) {
			for my $path (keys %{ $c->[3] }) {
				$c->[3]{$path} < 0 ? delete $names{$path} : ($names{$path} = $c->[3]{$path});
			}
		} elsif ($c->[3] eq 'write' && !is_durable($c, $flushed, $cut) && length $c->[5] > 512 && rand() < 0.3) {
			my @part = @$c;
			$part[5] = substr $c->[5], 0, 512 * int rand(length($c->[5]) / 512);
			apply(\%data, \@part);
			$torn++;
		} else {
			apply(\%data, $c);
		}
		$newest{ $c->[1] } = $c->[0] if defined $c->[1];
	}
	# The time is the last one's if the inode was written behind that, and nothing was changed later.
	my %last;
	for my $c (@$changes) { $last{ $c->[1] } = $c->[0] if defined $c->[1] }
	for my $ino (keys %newest) {
		$kept{$ino} = grep { $_->[2] eq 'flush' && $_->[0] <= $cut && $_->[1] > $last{$ino} } @{ $flushed->{$ino} // [] };
	}
	my %final = reverse %$end;
	for my $folder (@folders) {
		my ($base) = $folder =~ m{([^/]*)$};
		system('rm', '-rf', $folder) == 0 && system('cp', '-a', "$before/$base", $folder) == 0 or die;
		my %there = map { $_ => 1 } grep { m{^\Q$folder\E/} } keys %names;
		unlink grep { !$there{$_} } find($folder, '-type', 'f');
	}
	for my $path (sort keys %names) {
		my $ino = $names{$path};
		next if !defined $newest{$ino} && $was{$ino} && -e $path && same_place($was{$ino}, $path, $before, @folders);
		system('mkdir', '-p', dir_of($path)) == 0 or die;
		spill($path, $data{$ino} // '');
		my $like = $kept{$ino} && $final{$ino} ? in_copy($final{$ino}, $after, @folders) : $was{$ino};
		system('touch', '-r', $like, $path) if defined $like && -e $like;
	}
	my $what = $cut < 0 ? 'nothing' : join ' ', @{ $events->[$cut] }[ 0, 1 ];
	printf "state %d of %d (seed %d): cut behind %d of %d (%s), %d changes lost, %d torn\n", $n, $of, $seed, $cut + 1,
		scalar @$events, $what, $lost, $torn;
}

# Where a file of one of the folders is in a copy of them
sub in_copy {
	my ($path, $copy, @folders) = @_;
	for my $folder (@folders) {
		my ($base) = $folder =~ m{([^/]*)$};
		return "$copy/$base$1" if $path =~ m{^\Q$folder\E(/.*)$};
	}
	return undef;
}

sub same_place {
	my ($copy, $path, $before, @folders) = @_;
	return (in_copy($path, $before, @folders) // '') eq $copy;
}

my ($verb, @args) = @ARGV;
if ($verb eq 'calls') {
	print join(',', @CALLS), "\n";
} elsif ($verb eq 'read') {
	my ($trace, $out, @folders) = @args;
	store({ events => read_trace($trace, @folders), folders => \@folders }, $out);
} elsif ($verb eq 'show') {
	my $t = retrieve($args[0]);
	my $i = 0;
	for my $e (@{ $t->{events} }) {
		printf "%d %s %s %s\n", $i++, @$e[0, 1], join ' ', map { length($_ // '') > 80 ? length($_) . ' bytes' : $_ // '-' } @$e[ 2 .. $#$e ];
	}
} elsif ($verb eq 'make') {
	make(@args);
} else {
	die "powercut.pl: what is '$verb'?\n";
}
