package main

import (
	"fmt"
	"strconv"
	"time"
)

// settings are what the lab tells this binary through its environment; everything else is Karpenter's own.
type settings struct {
	instanceTypesFile string
	// faultsFile is read again at every use, so that a fault is switched by replacing the file. Empty: no faults.
	faultsFile string
	// allocatableSkew is the share by which a Node's CPU and memory differ from what Karpenter estimated.
	allocatableSkew float64
	// iceMemory is how long an offering counts as unavailable after a capacity error: too short and a claim is bought
	// in vain again and again, too long and returned capacity stays unused. AWS's provider takes 3 minutes.
	iceMemory time.Duration
	// devicePluginLate makes Nodes without GPUs: the stand-in kubelet advertises them later, as a device plugin does.
	devicePluginLate bool
}

func settingsFromEnvironment(getenv func(string) string) (settings, error) {
	result := settings{
		instanceTypesFile: getenv("INSTANCE_TYPES_FILE_PATH"),
		faultsFile:        getenv("LAB_FAULTS_FILE"),
		iceMemory:         3 * time.Minute,
	}
	if result.instanceTypesFile == "" {
		return settings{}, fmt.Errorf("INSTANCE_TYPES_FILE_PATH is empty: name the lab's instance_types.json")
	}
	var err error
	if text := getenv("LAB_ALLOCATABLE_SKEW"); text != "" {
		result.allocatableSkew, err = strconv.ParseFloat(text, 64)
		if err != nil || !(result.allocatableSkew >= -0.5 && result.allocatableSkew <= 0.5) {
			return settings{}, fmt.Errorf("LAB_ALLOCATABLE_SKEW=%q: give a share between -0.5 and 0.5, such as -0.02", text)
		}
	}
	if text := getenv("LAB_ICE_MEMORY"); text != "" {
		result.iceMemory, err = time.ParseDuration(text)
		if err != nil || result.iceMemory < 0 {
			return settings{}, fmt.Errorf("LAB_ICE_MEMORY=%q: give a Go duration, such as 3m", text)
		}
	}
	if text := getenv("LAB_DEVICE_PLUGIN_LATE"); text != "" {
		result.devicePluginLate, err = strconv.ParseBool(text)
		if err != nil {
			return settings{}, fmt.Errorf("LAB_DEVICE_PLUGIN_LATE=%q: give true or false", text)
		}
	}
	return result, nil
}
